"""Corrections of lines that are evidence: lines of sources and of the event log stay, and a fact corrects them."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import Layout
from tests.live import Live, code_of

SOURCE = "knowledge/handbook/rotation.md"
OLD, NEW = "Rotate the signing keys every ninety days with `keyctl`.", "Rotate the signing keys every thirty days."


@contextlib.contextmanager
def session(live: Live, principal: str = "agent:alice") -> Iterator[LocalSession]:
    with contextlib.closing(LocalSession(Layout(live.store))) as opened:
        opened.call("join", principal=principal)
        yield opened


def correct(live: Live, path: str = SOURCE, line: int = 7, text: str = NEW, **more: str) -> dict[str, Any]:
    with session(live, more.pop("principal", "agent:alice")) as opened:
        result: dict[str, Any] = opened.call(
            "correct", path=path, line=line, text=text, because="the policy of May", **more
        )
        return result


def attributes(live: Live, path: str) -> dict[str, str]:
    with session(live) as opened:
        values: dict[str, bytes] = opened.call("metadata", path=path)
    return {name.removeprefix("user.ctx."): value.decode() for name, value in values.items()}


def state_of(folder: Path) -> dict[str, tuple[str, int, list[str]]]:
    """Return digest, time and attributes of all files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, os.listxattr(path))
        for path in files
    }


@pytest.mark.parametrize(
    ("principal", "folder"), [("agent:alice", "memory/alice/fact"), ("human:ada", "memory/shared/fact")]
)
@pytest.mark.parametrize("options", [(), ("--writable",)])
def test_correction_of_a_source_is_a_fact_and_the_source_stays(
    offline: Live, principal: str, folder: str, options: tuple[str, ...]
) -> None:
    """A source is evidence, also if it is writable: a correction is a statement about it."""
    if options:
        offline.run("add", str(offline.corpus), "--name", "drafts", *options)
    path = SOURCE.replace("handbook", "drafts") if options else SOURCE
    before = state_of(offline.corpus)
    result = correct(offline, path, principal=principal)
    assert state_of(offline.corpus) == before
    assert (result["corrects"], result["was"]) == (f"{path}:7", OLD)
    fact = result["path"]
    assert fact.startswith(f"{folder}/rotate-the-signing-keys-every-thirty-day-")
    text = (offline.store / "tree" / fact).read_text()
    assert text.startswith(f"{NEW}\n\nCorrected: ")
    assert f"by {principal}\nCorrects: {path}:7 {OLD}\nBecause: the policy of May\n" in text
    values = attributes(offline, fact)
    assert (values["kind"], values["source"], values["holds"]) == ("fact", f"{path}:7", "holds")
    # The other lines of the source are as true as before, so no fact supersedes the whole file.
    assert "supersedes" not in values
    assert "superseded_by" not in attributes(offline, path)


def test_correction_no_longer_holds_once_its_source_says_otherwise(offline: Live) -> None:
    fact = correct(offline)["path"]
    (offline.corpus / "rotation.md").write_text("# Keys\n\nNothing about their rotation is here any more.\n")
    assert attributes(offline, fact)["holds"] in ("changed", "gone")


def test_corrected_fact_is_superseded_by_its_own_correction(offline: Live) -> None:
    first = correct(offline)["path"]
    second = correct(offline, first, 1, "Rotate the signing keys every week.")["path"]
    values = attributes(offline, second)
    assert values["supersedes"] == first
    assert values["source"] == f"{SOURCE}:7"
    assert attributes(offline, first)["state"] == "archived"


def test_line_of_a_source_is_found_by_its_text_or_refused(offline: Live) -> None:
    file = offline.corpus / "rotation.md"
    file.write_text("A new first line.\n" + file.read_text())
    assert correct(offline, line=7, was=OLD)["corrects"] == f"{SOURCE}:8"
    assert code_of(lambda: correct(offline, line=7, text="Another text.", was="A line that is gone.")) == errno.ESTALE
    assert code_of(lambda: correct(offline, "knowledge/handbook/image.png", 1)) == errno.EINVAL
    assert code_of(lambda: correct(offline, "knowledge/handbook/src", 1)) == errno.EISDIR


def test_same_correction_twice_is_one_fact(offline: Live) -> None:
    correct(offline)
    assert code_of(lambda: correct(offline)) == errno.EEXIST
    assert len(list((offline.store / "tree" / "memory/alice/fact").iterdir())) == 1


def test_correction_of_a_record_leaves_the_event_log_as_it_is(offline: Live) -> None:
    with session(offline, "human:ada") as opened:
        opened.call("record", said=[{"kind": "note", "text": "The keys last ninety days."}], session="s-log")
    (log,) = (offline.store / "history").glob("20*/s-log.jsonl")
    before = log.read_bytes()
    path = f"history/{log.parent.name}/s-log.jsonl"
    result = correct(offline, path, 1, "The keys last thirty days.", principal="human:ada")
    assert result["path"].startswith("memory/shared/fact/")
    assert log.read_bytes() == before
    with session(offline, "human:ada") as opened:
        assert opened.call("metadata", path=result["path"])["user.ctx.holds"] == b"holds"
