"""Test remarks on written memories over an index in memory: large files, and bounds."""

from collections.abc import Mapping

import pytest
import trio

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.query import Query
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import Hit, SearchResults
from ctxfs.model.path import Path
from ctxfs.services import memory_remarks
from ctxfs.services.memory_remarks import MemoryRemark, MemoryRemarks

FILE = Path.parse("memory/alice/fact/new.md")
CITIES = ["Lyon", "Graz", "Porto", "Turin", "Gdansk", "Leeds", "Malmo", "Bergen"]
STATEMENTS = [
    f"The depot of sector {number} in {CITIES[number % 8]} keeps pallets for {number} days." for number in range(300)
]


class MemoryIndexFake:
    """One memory a statement; a search returns those with the most words of the query."""

    def __init__(self, statements: list[str]) -> None:
        self.searches = 0
        self.rows = [
            ChunkRow(n, f"memory/bob/fact/{n}.md", 1, 1, "", text, "fact", 0, "", "", None)
            for n, text in enumerate(statements)
        ]

    def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        self.searches += 1
        rows = sorted(self.rows, key=lambda row: -sum(word in row.text.lower() for word in query.words))
        return SearchResults(query, [Hit(row, 1.0) for row in rows][:limit])

    def statuses(self, paths: set[str]) -> Mapping[str, FileStatus]:
        return {}


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the searches time, so that only their number is bounded."""
    monkeypatch.setattr(memory_remarks, "_MAX_SECONDS", 60.0)


def remarks_on(index: MemoryIndexFake, text: str, before: str = "") -> list[MemoryRemark]:
    async def compare() -> list[MemoryRemark]:
        return await MemoryRemarks(index).compare(FILE, text.encode(), before.encode())

    return trio.run(compare)


def test_write_of_many_statements_compares_only_those_that_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxfs.context.grounding.statement_relations import StatementIndex

    compared = list[str]()
    relations = StatementIndex.relations
    monkeypatch.setattr(
        StatementIndex, "relations", lambda index, item: compared.append(item.text) or relations(index, item)
    )
    index = MemoryIndexFake(["The depot of sector 5 in Leeds keeps pallets for 80 days."])
    changed = "\n\n".join(text.replace("days", "weeks") for text in STATEMENTS)
    assert remarks_on(index, changed)
    assert index.searches == len(compared) == 12


def test_change_far_behind_the_head_of_a_large_memory_is_compared() -> None:
    index = MemoryIndexFake(["Access tokens expire after 30 days."])
    before = "# Depots\n\n" + "\n\n".join(STATEMENTS * 60)
    assert len(before) > 1_000_000
    after = f"{before}\n\n# Access\n\nAccess tokens expire after 90 days."
    (remark,) = remarks_on(index, after, before)
    assert remark.is_contradiction
    assert remark.line == after.count("\n") + 1
    assert index.searches == 1


def test_heading_of_a_former_paragraph_limits_the_new_one() -> None:
    index = MemoryIndexFake(["timeout: 30 s"])
    before = "# Staging\n\nretries: 4\n"
    assert remarks_on(index, before + "\ntimeout: 90 s\n", before)
    index.rows[0] = index.rows[0]._replace(heading="Production")
    assert not remarks_on(index, before + "\ntimeout: 90 s\n", before)
