"""Test that pinned memories are in every context of their scope, within the budget, and no other file is."""

from collections.abc import Collection, Mapping

import trio

from ctxfs.context.build.candidate_filter import FilterCriteria, filter_candidates
from ctxfs.context.build.constructor import Candidates, assemble
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.pins import read_pinned
from ctxfs.context.build.request import Request, make_request
from ctxfs.context.build.tokens import BoundTokenizer
from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.query import Query
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import Hit, SearchResults
from ctxfs.model.path import Path


class PinnedFiles:
    """A tree in which all files are pinned: {path: (time of the last change, text)}."""

    def __init__(self, files: Mapping[str, tuple[int, str]], untrusted: Collection[str] = ()) -> None:
        self.files = files
        self.untrusted = untrusted

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        assert ("pinned", "true") in query.attributes
        paths = [path for path in self.files if Path.parse(path).is_below(below)]
        rows = [
            ChunkRow(n, path, 1, 1, "", "a part", "fact", self.files[path][0], "", "", None)
            for n, path in enumerate(paths)
        ]
        return SearchResults(query, [Hit(row, 1.0) for row in rows][:limit])

    async def read(self, path: Path) -> bytes:
        return self.files[str(path)][1].encode()

    async def statuses(self, paths: Collection[str]) -> Mapping[str, FileStatus]:
        return {path: FileStatus(untrusted=True) for path in paths if path in self.untrusted}


def pinned(files: PinnedFiles, principal: str = "agent:alice", **request: object) -> list[Piece]:
    made = make_request({"query": "keys", "budget": 1000, **request}, 1000)
    return trio.run(read_pinned, files, made, principal)


def paths(pieces: Collection[Piece]) -> list[str]:
    return [piece.path for piece in pieces]


FILES = PinnedFiles(
    {
        "memory/alice/fact/old.md": (1, "first line\nsecond line\n"),
        "memory/alice/fact/new.md": (3, "new\n"),
        "memory/shared/fact/all.md": (2, "for all\n"),
        "memory/bob/fact/his.md": (9, "of another\n"),
        "knowledge/a/x.md": (9, "no memory\n"),
        "memory/shared/fact/bad.md": (9, "from elsewhere\n"),
    },
    {"memory/shared/fact/bad.md"},
)


def test_pinned_memories_of_the_principal_and_of_all_are_read_whole_newest_first() -> None:
    pieces = pinned(FILES)
    assert paths(pieces) == ["memory/alice/fact/new.md", "memory/shared/fact/all.md", "memory/alice/fact/old.md"]
    assert pieces[-1].text == "first line\nsecond line"
    assert {piece.why for piece in pieces} == {"pinned"}
    assert paths(pinned(FILES, "")) == ["memory/shared/fact/all.md"]


def test_paths_of_the_request_narrow_the_scope() -> None:
    assert paths(pinned(FILES, paths=["memory/shared"])) == ["memory/shared/fact/all.md"]
    assert paths(pinned(FILES, paths=["memory"])) == paths(pinned(FILES))
    assert paths(pinned(FILES, paths=["memory/alice/fact"])) == ["memory/alice/fact/new.md", "memory/alice/fact/old.md"]
    assert paths(pinned(FILES, paths=["knowledge", "memory/bob"])) == []


def built(pieces: Collection[Piece], **request: object) -> tuple[list[str], dict[str, str]]:
    """Return the paths in a context, and the excluded ones with the reasons."""
    made = make_request({"query": "keys", "budget": 200, **request}, 200)
    accepted, excluded = filter_candidates((), pieces, FilterCriteria(10, since_ns=5))
    context = assemble(made, Candidates((), accepted, excluded), BoundTokenizer())
    assert context.tokens <= made.budget
    return paths(context.plan.chosen), {item.piece.path: item.reason for item in context.plan.excluded}


def test_pinned_memory_comes_first_and_covers_its_own_passages() -> None:
    pins = [Piece("memory/shared/p.md", 1, 3, "always\nthis\nhere", why="pinned", mtime_ns=1)]
    hits = [
        Piece("a.md", 1, 1, "a hit", score=9.0, mtime_ns=9),
        Piece("memory/shared/p.md", 2, 2, "this", score=8.0, mtime_ns=9),
    ]
    chosen, excluded = built([*pins, *hits])
    assert chosen == ["memory/shared/p.md", "a.md"], "also if it is older than `fresh`"
    assert excluded == {"memory/shared/p.md": "duplicate"}


def test_pinned_memory_that_does_not_fit_is_named() -> None:
    pins = [
        Piece("big.md", 1, 1, "word " * 5000, why="pinned", mtime_ns=9),
        Piece("small.md", 1, 1, "small", why="pinned", mtime_ns=8),
    ]
    chosen, excluded = built([*pins, Piece("a.md", 1, 1, "a hit", score=9.0, mtime_ns=9)])
    assert chosen[:2] == ["small.md", "a.md"]
    assert excluded.get("big.md", "budget") == "budget"


def test_states_of_a_request_are_checked() -> None:
    request: Request = make_request({"query": "x", "states": ["archived"]}, 100)
    assert make_request(request.record(), 100) == request
