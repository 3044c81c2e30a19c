"""Test citations on a store: their states by the sources, permissions, bad input, the commands cite and check."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.daemon.session import LocalSession
from ctxfs.memory.citations import State, parse_citations
from ctxfs.model.change import Move, Put, SetMeta
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import Layout
from tests.live import Live, code_of

FACT = "memory/alice/fact/rotation.md"
SOURCE = "knowledge/handbook/keys.md"
RULES = """
[[rule]]
principal = "agent:*"
path = "knowledge/handbook/secret"
verbs = "lrwxa"
effect = "deny"
"""
TEXT = """# Keys

The signing keys live in the vault, below the name release.
Rotate the signing keys every ninety days with keyctl.

Backups of the vault are kept for thirty days.
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return a store that each test copies."""
    made = Live(tmp_path_factory.mktemp("template"))
    (made.corpus / "secret").mkdir(parents=True)
    (made.corpus / "keys.md").write_text(TEXT)
    (made.corpus / "other.md").write_text("# Other\n\nSomething else.\n")
    (made.corpus / "secret" / "pin.md").write_text("The pin of the vault is 7741, and nobody else has it.\n")
    made.run("init")
    config = made.store / "ctxfs.toml"
    config.write_text(config.read_text() + RULES)
    made.run("add", str(made.corpus), "--name", "handbook")
    fact = made.store / "tree" / FACT
    fact.parent.mkdir(parents=True)
    fact.write_text("Signing keys are rotated every ninety days with keyctl.\n")
    return made


@pytest.fixture
def live(template: Live, tmp_path: Path) -> Live:
    copy = Live(tmp_path)
    for source, target in ((template.store, copy.store), (template.corpus, copy.corpus)):
        shutil.copytree(source, target, symlinks=True)
    config = copy.store / "ctxfs.toml"
    config.write_text(config.read_text().replace(str(template.corpus), str(copy.corpus)))
    return copy


@contextlib.contextmanager
def session(live: Live, principal: str = "") -> Iterator[LocalSession]:
    with contextlib.closing(LocalSession(Layout(live.store))) as opened:
        if principal:
            opened.call("join", principal=principal)
        yield opened


def attributes(live: Live, path: str = FACT, principal: str = "") -> dict[str, str]:
    with session(live, principal) as opened:
        values: dict[str, bytes] = opened.call("metadata", path=path)
    return {name.removeprefix("user.ctx."): value.decode("utf-8", "replace") for name, value in values.items()}


def holds(live: Live, path: str = FACT, principal: str = "") -> tuple[str, str]:
    values = attributes(live, path, principal)
    return values["holds"], values.get("holds_at", "")


def cite(live: Live, *sources: str, path: str = FACT, principal: str = "", **options: Any) -> Any:
    with session(live, principal) as opened:
        return opened.call("cite", path=path, sources=list(sources), **options)


def apply(live: Live, change: Any, principal: str = "") -> None:
    with session(live, principal) as opened:
        opened.call("apply", change=change_to_wire(change))


def test_state_follows_the_source(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    source = live.corpus / "keys.md"
    assert holds(live) == ("holds", f"{SOURCE}:4")
    os.utime(source)
    assert holds(live)[0] == "holds"
    source.write_text(TEXT.replace("Rotate the", "Rotate\n  the"))
    assert holds(live) == ("holds", f"{SOURCE}:4-5")
    source.write_text("A new first line.\n" + TEXT)
    assert holds(live) == ("moved", f"{SOURCE}:5")
    source.write_text(TEXT.replace("ninety", "thirty"))
    assert holds(live)[0] == "changed"
    source.write_text(TEXT[:60])
    assert holds(live) == ("gone", "")
    source.unlink()
    assert holds(live) == ("gone", "")


def test_same_size_and_time_do_not_hide_an_edit(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    source = live.corpus / "keys.md"
    times = source.stat()
    with session(live) as opened:
        assert opened.call("metadata", path=FACT)["user.ctx.holds"] == b"holds"
        with source.open("r+") as file:
            file.write(TEXT.replace("ninety", "twenty"))
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert opened.call("metadata", path=FACT)["user.ctx.holds"] == b"changed"


def test_renamed_source_is_found_beside_and_elsewhere(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    os.rename(live.corpus / "keys.md", live.corpus / "signing.md")
    assert holds(live) == ("moved", "knowledge/handbook/signing.md:4")
    (live.corpus / "deep").mkdir()
    os.rename(live.corpus / "signing.md", live.corpus / "deep" / "keys.md")
    with session(live) as opened:
        opened.call("search", question="keys")  # without a daemon, a question brings the index up to date
        assert opened.call("metadata", path=FACT)["user.ctx.holds_at"] == b"knowledge/handbook/deep/keys.md:4"


def test_rename_is_followed_by_versions(live: Live) -> None:
    note = "memory/alice/note.md"
    apply(live, Put(TreePath.parse(note), TEXT.encode()))
    with session(live) as opened:
        opened.call("commit")
    cite(live, f"{note}:4")
    for old, new in ((note, "memory/alice/fact/b.md"), ("memory/alice/fact/b.md", "memory/alice/fact/c.md")):
        move(live, old, new)
    assert holds(live) == ("moved", "memory/alice/fact/c.md:4")


def move(live: Live, old: str, new: str) -> None:
    """Move a file, in a version of its own."""
    apply(live, Move(TreePath.parse(old), TreePath.parse(new)))
    with session(live) as opened:
        opened.call("commit")


def test_rename_is_followed_from_the_time_of_the_citation(live: Live) -> None:
    notes = [f"memory/alice/{name}.md" for name in ("note", "first", "second", "third")]
    for number, target in enumerate(notes[1:]):
        apply(live, Put(TreePath.parse(f"memory/alice/fact/{number}.md"), b"A fact."))
        apply(live, Put(TreePath.parse(notes[0]), TEXT.replace("ninety", str(number)).encode()))
        with session(live) as opened:
            opened.call("commit")
        cite(live, f"{notes[0]}:4", path=f"memory/alice/fact/{number}.md")
        move(live, notes[0], target)
    with session(live) as opened:
        names = opened.app.archive.reader.names_since
        parsed = [
            parse_citations(opened.call("metadata", path=f"memory/alice/fact/{number}.md")["user.ctx.cites"])[0]
            for number in range(3)
        ]
        assert [names(notes[0], citation.cited_ms * 1_000_000) for citation in parsed] == [[name] for name in notes[1:]]
    for number, target in enumerate(notes[1:]):
        assert holds(live, f"memory/alice/fact/{number}.md") == ("moved", f"{target}:4")


def test_text_that_moved_to_another_file_is_found_by_the_fact(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    line = TEXT.splitlines()[3]
    (live.corpus / "keys.md").write_text(TEXT.replace(line + "\n", ""))
    (live.corpus / "a" / "b").mkdir(parents=True)
    (live.corpus / "a" / "b" / "handling.md").write_text(f"# Handling\n\n{line}\n")
    with session(live) as opened:
        opened.call("search", question="keys")
    assert holds(live) == ("moved", "knowledge/handbook/a/b/handling.md:3")


def test_older_copy_is_no_move(live: Live) -> None:
    shutil.copy(live.corpus / "keys.md", live.corpus / "copy.md")
    os.utime(live.corpus / "copy.md")
    before = (live.corpus / "copy.md").stat().st_ctime_ns
    while (live.corpus / "probe").write_text("") or (live.corpus / "probe").stat().st_ctime_ns < before + 30_000_000:
        pass
    cite(live, f"{SOURCE}:4")
    (live.corpus / "keys.md").write_text("# Keys\n")
    assert holds(live) == ("gone", "")


def rewrite(file: Path, text: str) -> None:
    """Replace a file as editors do: by a new one of the same name."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    os.replace(new, file)


@pytest.mark.parametrize("copies", [1, 3, 7])
def test_copy_that_changed_later_is_no_move(live: Live, copies: int) -> None:
    line = TEXT.splitlines()[3]
    for number in range(copies):
        (live.corpus / f"copy{number}.md").write_text(f"# Copy {number}\n\n{line}\n")
    with session(live) as opened:
        opened.call("search", question="keys")
        opened.call("cite", path=FACT, sources=[f"{SOURCE}:4"])
    (live.corpus / "copy0.md").write_text(f"# Copy 0\n\nMore.\n{line}\n")
    for number in range(1, copies):
        rewrite(live.corpus / f"copy{number}.md", f"# Copy {number}\n\nMore.\n{line}\n")
    assert holds(live) == ("holds", f"{SOURCE}:4")
    (live.corpus / "keys.md").write_text(TEXT.replace(line + "\n", ""))
    assert holds(live)[0] in ("gone", "changed")
    (live.corpus / "copy0.md").rename(live.corpus / "copied.md")
    assert holds(live)[0] in ("gone", "changed")


@pytest.mark.parametrize("copies", [1, 7])
def test_renamed_source_is_told_from_copies_of_its_text(live: Live, copies: int) -> None:
    for number in range(copies):
        (live.corpus / f"copy{number}.md").write_text(TEXT)
    cite(live, f"{SOURCE}:4")
    for number in range(copies):
        (live.corpus / f"copy{number}.md").write_text("More.\n" + TEXT)
    (live.corpus / "keys.md").rename(live.corpus / "signing.md")
    assert holds(live) == ("moved", "knowledge/handbook/signing.md:4")


def test_text_that_moved_beside_an_old_copy_is_found(live: Live) -> None:
    line = TEXT.splitlines()[3]
    copy = live.corpus / "copy.md"
    copy.write_text(TEXT)
    cite(live, f"{SOURCE}:4")
    copy.write_text("More.\n" + TEXT)
    (live.corpus / "keys.md").write_text(TEXT.replace(line + "\n", ""))
    assert holds(live)[0] in ("gone", "changed")
    (live.corpus / "handling.md").write_text(f"# Handling\n\n{line}\n")
    assert holds(live) == ("moved", "knowledge/handbook/handling.md:3")


def test_citation_names_no_copy_that_its_reader_may_not_see(live: Live) -> None:
    shutil.copy(live.corpus / "keys.md", live.corpus / "secret" / "keys.md")
    key = live.store / "citations.key"
    values = []
    with session(live) as opened:
        opened.call("search", question="keys")  # without a daemon, a question brings the index up to date
    for _ in range(2):
        cite(live, f"{SOURCE}:4", replace=True)
        (citation,) = parse_citations(attributes(live)["cites"].encode())
        values.append(citation.copies)
        assert key.stat().st_mode & 0o777 == 0o600
        key.unlink()
    assert values[0] is not None and values[1] is not None
    assert values[0].files != values[1].files  # the marks depend on the key, not on the names alone
    cite(live, f"{SOURCE}:4", replace=True, principal="human:shell")
    apply(live, Put(TreePath.parse("memory/alice/own.md"), b"Own."), "agent:alice")
    cite(live, f"{SOURCE}:4", path="memory/alice/own.md", principal="agent:alice")
    (citation,) = parse_citations(attributes(live, "memory/alice/own.md")["cites"].encode())
    assert citation.copies is None


def test_reader_without_the_source_learns_nothing(live: Live) -> None:
    pin = live.corpus / "secret" / "pin.md"
    cite(live, "knowledge/handbook/secret/pin.md:1")
    original = pin.read_text()
    for text in (original, original.replace("7741", "1234"), "above\n\n" + original, "", None):
        if text is None:
            pin.unlink()
        else:
            pin.write_text(text)
        assert holds(live, principal="agent:alice") == ("unseen", "")
        with session(live, "agent:alice") as opened:
            (file,) = opened.call("check", path="")
            assert file["citations"] == [{"cites": "knowledge/handbook/secret/pin.md:1", "holds": "unseen"}]
    assert holds(live)[0] == "gone"


def test_text_that_moved_to_a_hidden_file_is_gone(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    os.rename(live.corpus / "keys.md", live.corpus / "secret" / "keys.md")
    with session(live) as opened:
        opened.call("search", question="keys")
    assert holds(live)[0] == "moved"
    assert holds(live, principal="agent:alice") == ("gone", "")


def test_quarantined_source_is_unseen_by_agents(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    os.setxattr(live.corpus / "keys.md", "user.ctx.quarantined", b"true")
    assert holds(live, principal="agent:alice") == ("unseen", "")
    assert holds(live)[0] == "holds"


def test_agent_cites_only_lines_that_it_may_read(live: Live) -> None:
    path = "knowledge/handbook/secret/pin.md:1"
    assert code_of(lambda: cite(live, path, principal="agent:alice"))
    apply(live, SetMeta(TreePath.parse(FACT), "user.ctx.source", path.encode()), "agent:alice")
    assert "cites" not in attributes(live)


@pytest.mark.parametrize("form", ["put", "set"])
def test_source_with_lines_is_cited_at_write(live: Live, form: str) -> None:
    source = f"{SOURCE}:3-4".encode()
    path = TreePath.parse(FACT)
    if form == "put":
        apply(live, Put(path, b"Keys are rotated.\n", {"user.ctx.source": source}), "agent:alice")
    else:
        apply(live, SetMeta(path, "user.ctx.source", source), "agent:alice")
    assert holds(live) == ("holds", f"{SOURCE}:3-4")
    apply(live, SetMeta(path, "user.ctx.source", b"https://example.com/keys"))
    assert holds(live)[0] == "holds"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("knowledge/handbook/secret:1", "directory"),
        ("knowledge/handbook/absent.md:1", "No such"),
        (f"{SOURCE}:99", "last line"),
        (f"{SOURCE}:2", "no words"),
        (f"{SOURCE}:0", "no lines"),
        (f"{SOURCE}:5-2", "no lines"),
        (SOURCE, "no lines"),
        ("knowledge/../../etc/passwd:1", "cannot be"),
        ("knowledge/handbook/binary.bin:1", "binary"),
        ("knowledge/handbook/huge.log:2000000000", "no lines"),
        ("knowledge/handbook/huge.log:400000000", "too large"),
        ("knowledge/handbook/outside:1", "No such"),
        ("search/keys/context.md:1", "can be cited"),
        ("context/t/stream:1", "can be cited"),
        (".versions/memory/alice:1", "can be cited"),
        ("x" * 5000 + ":1", "too long"),
    ],
)
def test_bad_source_is_refused(live: Live, source: str, reason: str) -> None:
    (live.corpus / "binary.bin").write_bytes(bytes(range(256)) * 100)
    (live.corpus / "outside").symlink_to("/etc/passwd")
    with (live.corpus / "huge.log").open("w") as file:
        file.write("A line of the log.\n" * 300_000)
        file.truncate(5_000_000_000)
    with pytest.raises(OSError, match=reason):
        cite(live, source)
    assert "cites" not in attributes(live)


def test_head_of_a_huge_source_can_be_cited(live: Live) -> None:
    log = live.corpus / "huge.log"
    with log.open("w") as file:
        file.write("The first line names the machine.\n" + "A line of the log.\n" * 300_000)
        file.truncate(5_000_000_000)
    cite(live, "knowledge/handbook/huge.log:1")
    assert holds(live)[0] == "holds"
    with log.open("r+") as file:
        file.write("No")
    assert holds(live)[0] in ("changed", "unseen")


def test_source_that_became_something_else_is_gone(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    source = live.corpus / "keys.md"
    source.write_bytes(bytes(range(256)) * 100)
    assert holds(live)[0] == "gone"
    source.unlink()
    source.mkdir()
    assert holds(live)[0] == "gone"
    source.rmdir()
    os.mkfifo(source)
    assert holds(live)[0] == "gone"


def test_url_is_unseen(live: Live) -> None:
    cite(live, "https://example.com/keys", f"{SOURCE}:4")
    assert holds(live) == ("unseen", f"{SOURCE}:4")


def test_files_may_cite_each_other(live: Live) -> None:
    other = "memory/alice/fact/other.md"
    apply(live, Put(TreePath.parse(other), b"The other fact rests on the first one.\n"))
    cite(live, f"{other}:1")
    cite(live, f"{FACT}:1", path=other)
    cite(live, f"{FACT}:1")
    assert holds(live)[0] == "holds"
    apply(live, Put(TreePath.parse(other), b"The other fact rests on nothing now.\n"))
    assert holds(live)[0] == "changed"
    assert holds(live, other)[0] == "holds"


@pytest.mark.parametrize(
    "value", [b"", b"\xff\xfe", b"x\ny", f"{SOURCE}:4".encode(), b"a:1-2 " + b"0" * 32 + b" 1@1 - 1 0:00000000"]
)
def test_malformed_attribute_costs_only_itself(live: Live, value: bytes) -> None:
    os.setxattr(live.store / "tree" / FACT, "user.ctx.cites", value)
    assert "revision" in attributes(live) or "sha256" in attributes(live)
    with session(live) as opened:
        assert len(opened.call("check", path="")) <= 1


def test_malformed_value_is_refused(live: Live) -> None:
    with pytest.raises(OSError, match="ctxfs cite"):
        apply(live, SetMeta(TreePath.parse(FACT), "user.ctx.cites", b"knowledge/x.md:4"))
    for name in ("holds", "holds_at"):
        with pytest.raises(OSError, match="computed"):
            apply(live, SetMeta(TreePath.parse(FACT), f"user.ctx.{name}", b"holds"))


def test_citations_of_one_file_are_bounded(live: Live) -> None:
    (live.corpus / "long.md").write_text("".join(f"Line {number} has a text of its own.\n" for number in range(100)))
    with pytest.raises(OSError, match="too many"):
        cite(live, *(f"knowledge/handbook/long.md:{number}" for number in range(1, 60)))
    assert "cites" not in attributes(live)
    listed = cite(live, "knowledge/handbook/long.md:1", "knowledge/handbook/long.md:2")["citations"]
    assert listed == ["knowledge/handbook/long.md:1", "knowledge/handbook/long.md:2"]
    assert cite(live, f"{SOURCE}:4", replace=True)["citations"] == [f"{SOURCE}:4"]
    assert cite(live, replace=True)["citations"] == []


def test_many_facts_read_a_changed_source_once(live: Live) -> None:
    lines = [f"Entry {number} of the table is {number * 7}." for number in range(300)]
    table = live.corpus / "table.md"
    table.write_text("\n".join(lines))
    with session(live) as opened:
        for number in range(300):
            path = f"memory/alice/fact/{number}.md"
            (live.store / "tree" / path).write_text(lines[number])
            opened.call("cite", path=path, sources=[f"knowledge/handbook/table.md:{number + 1}"])
        table.write_text("\n".join([*lines[:100], "Entry 100 of the table is void.", *lines[101:]]))
        sources = opened.app.memory.citations._sources
        before = sources.read_bytes
        checked = opened.call("check", path="memory")
        assert sources.read_bytes - before == table.stat().st_size
    states = {file["path"]: file["holds"] for file in checked}
    assert [path for path, state in states.items() if State(state).is_broken] == ["memory/alice/fact/100.md"]


@pytest.mark.long
def test_commands_report_what_no_longer_holds(live: Live) -> None:
    assert live.run("cite", FACT, f"{SOURCE}:4").strip() == f"{SOURCE}:4"
    done = live.try_run("check")
    assert (done.returncode, done.stdout.split()) == (0, ["holds", FACT])
    (live.corpus / "keys.md").write_text(TEXT.replace("ninety", "thirty"))
    done = live.try_run("check", "memory/alice", "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)[0]["citations"] == [
        {"cites": f"{SOURCE}:4", "holds": "changed", "at": f"{SOURCE}:4"}
    ]
    with session(live) as opened:
        opened.call("search", question="keys")
    assert "no longer hold" in live.run("status")
    assert "no longer hold" in live.try_run("doctor").stdout
    assert live.try_run("check", "memory/nobody").returncode == 1
    assert live.try_run("cite", FACT).returncode == 2


def manifest(live: Live, principal: str = "", **request: Any) -> dict[str, Any]:
    with session(live, principal) as opened:
        built = opened.call(
            "context", request={"query": "how often are signing keys rotated", "budget": 600, **request}
        )
    data: dict[str, Any] = json.loads(built["manifest"])
    return {**data, "text": built["text"]}


@pytest.mark.parametrize("form", ["markdown", "xml", "json", "messages"])
def test_context_marks_or_drops_a_fact_whose_source_changed(live: Live, form: str) -> None:
    cite(live, f"{SOURCE}:4")
    (live.corpus / "keys.md").write_text(TEXT.replace("ninety", "thirty"))
    marked = manifest(live, format=form)
    assert [item.get("stale") for item in marked["items"] if item["path"] == FACT] == ["changed"]
    assert "changed" in marked["text"]
    dropped = manifest(live, format=form, stale="drop")
    assert [(out["path"], out["reason"]) for out in dropped["excluded"] if out["path"] == FACT] == [
        (FACT, "source-changed")
    ]
    kept = manifest(live, format=form, stale="keep")
    assert [item.get("stale") for item in kept["items"] if item["path"] == FACT] == [None]
    (live.corpus / "keys.md").write_text(TEXT)
    assert "stale" not in json.dumps(manifest(live, format=form)["items"])


def test_context_of_a_reader_without_the_source_has_no_mark(live: Live) -> None:
    pin = live.corpus / "secret" / "pin.md"
    shared = "memory/shared/rotation.md"
    (live.store / "tree" / "memory" / "shared").mkdir(parents=True, exist_ok=True)
    (live.store / "tree" / shared).write_text("The signing keys are rotated every ninety days.\n")
    cite(live, "knowledge/handbook/secret/pin.md:1", path=shared)
    pin.write_text("Nothing.\n")
    assert [i.get("stale") for i in manifest(live)["items"] if i["path"] == shared] == ["gone"]
    texts = [manifest(live, "agent:alice")["text"]]
    pin.write_text("The pin of the vault is 7741, and nobody else has it.\n")
    texts.append(manifest(live, "agent:alice")["text"])
    assert texts[0] == texts[1]
    assert "gone" not in texts[0]


def test_stale_option_is_checked(live: Live) -> None:
    for bad in ({"stale": "hide"}, {"when": "soon"}, {"when": "2026-13"}, {"when": ""}):
        with pytest.raises(OSError, match="is needed"):
            manifest(live, **bad)


OLD, NEW = "memory/shared/fact/old.md", "memory/shared/fact/new.md"


@pytest.fixture
def dated(live: Live) -> Live:
    """Return a store with two facts, valid one after the other, and one without an end."""
    for path, text, attributes in (
        (OLD, "The signing keys are rotated every thirty days.\n", {"valid_from": "2024-01", "valid_until": "2025-06"}),
        (NEW, "The signing keys are rotated every ninety days.\n", {"valid_from": "2025-07-01"}),
    ):
        values = {f"user.ctx.{name}": value.encode() for name, value in attributes.items()}
        (live.store / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        apply(live, Put(TreePath.parse(path), text.encode(), values))
    return live


@pytest.mark.parametrize(
    ("when", "paths"),
    [
        ("2024", {OLD}),
        ("2025-06", {OLD}),
        ("2025-06-30", {OLD}),
        ("2025-07-01", {NEW}),
        ("2025", {OLD, NEW}),
        ("2025-06..2025-07", {OLD, NEW}),
        ("2025-06/2025-07", {OLD, NEW}),
        ("2030", {NEW}),
        ("2023", set()),
        ("now", {NEW}),
    ],
)
def test_question_names_the_time_of_validity(dated: Live, when: str, paths: set[str]) -> None:
    with session(dated) as opened:
        for question in (f"valid:{when} signing keys rotated", f"valid:{when} path:memory/shared"):
            hits = opened.call("search", question=question)["hits"]
            assert {hit["path"] for hit in hits} & {OLD, NEW} == paths, question
    items = {item["path"] for item in manifest(dated, when=when)["items"]}
    assert items & {OLD, NEW} == paths


def test_ended_validity_ranks_last_and_is_marked(dated: Live) -> None:
    with session(dated) as opened:
        found = opened.call("search", question="signing keys are rotated every thirty days", labels=True)
        assert opened.call("search", question="valid:soon signing keys")["remarks"]
    assert found["hits"][-1]["path"] == OLD
    assert found["hits"][-1]["valid_until"] == "2025-06"
    assert found["labels"][OLD] == "[valid until 2025-06 only]"
    assert all("valid_until" not in hit for hit in found["hits"][:-1])
    built = manifest(dated)
    assert built["items"][-1]["path"] == OLD
    assert built["items"][-1]["valid_until"] == "2025-06"
    assert "(valid until 2025-06 only)" in built["text"]
    apply(dated, SetMeta(TreePath.parse(OLD), "user.ctx.valid_until", None))
    assert "valid until" not in manifest(dated)["text"]


def test_malformed_validity_is_refused(live: Live) -> None:
    for value in (b"soon", b"2026-13", b"2026-02-30", b"", b"2026-01..2026-02"):
        with pytest.raises(OSError, match="ISO 8601"):
            apply(live, SetMeta(TreePath.parse(FACT), "user.ctx.valid_until", value))


def test_label_names_the_source_that_changed(live: Live) -> None:
    cite(live, f"{SOURCE}:4")
    with session(live) as opened:
        assert opened.call("read_labelled", path=FACT)["label"] == ""
        (live.corpus / "keys.md").write_text(TEXT.replace("ninety", "thirty"))
        label = f"[source changed since: {SOURCE}:4]"
        assert opened.call("read_labelled", path=FACT)["label"] == label
        assert opened.call("search", question="signing keys", labels=True)["labels"] == {FACT: label}
