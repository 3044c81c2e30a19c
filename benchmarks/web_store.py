"""The store that the page is measured on: files, versions, memories, reviews, contexts and an audit of chosen numbers.

Versions, records and reviews are written in their formats on disk, because a hundred thousand writes on a mount take hours.
"""

import json
import os
import random
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.harness import Bench
from ctxfs.eventlog.audit import SESSION
from ctxfs.eventlog.chain import Link, chain_record
from ctxfs.store.layout import Layout
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor, Commit, encode_commit
from ctxfs.versions.objects.git import BRANCH
from ctxfs.versions.objects.trees import EMPTY_TREE

_AGENTS = 20
_KINDS = ("fact", "procedural", "episodic", "user")
_VERSIONED_FILES = 200
_RECORDS_PER_DAY = 100_000
_OPS = ("read", "read", "read", "list", "search", "write", "context", "stat")
_WORDS = (
    "signing key rotation backoff retry token budget pipeline image rollback valve pump ledger index vector chunk source "
    "mount daemon journal commit branch policy agent review claim memory context answer question window stream canteen "
    "house noon release wheel kernel cache inode cursor descriptor lock socket frame record chain anchor digest secret"
).split()


@dataclass(frozen=True, slots=True)
class Numbers:
    """The sizes of a store."""

    files: int = 50_000
    versions: int = 100_000
    records: int = 1_000_000
    memories: int = 10_000
    reviews: int = 1000
    contexts: int = 60


def make_web_store(setup: Bench, numbers: Numbers, *, meaning: bool) -> None:
    """Create the store, unless it exists, and index it."""
    if setup.store.exists():
        return
    setup.ctxfs("init")
    if not meaning:
        config = setup.store / "ctxfs.toml"
        config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    layout = Layout(setup.store)
    _write_files(setup.corpus, numbers.files)
    setup.ctxfs("add", str(setup.corpus), "--name", "corpus")
    _write_memories(layout.tree / "memory", numbers.memories)
    _write_reviews(layout.tree / "human" / "review", numbers.reviews)
    for number in range(numbers.contexts):
        folder = layout.tree / "context" / f"task-{number:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "request.toml").write_text(f'query = "{_sentence(random.Random(number), 5)}"\nbudget = 4000\n')
    _open_archive(layout)  # all of this is the first version
    _write_versions(layout, numbers.versions)
    _open_archive(layout)  # the path index follows
    write_audit(layout.audit, numbers.records)
    setup.ctxfs("reindex")


def _sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


def _write_files(folder: Path, count: int) -> None:
    chance = random.Random(1)
    for number in range(count):
        inside = folder / f"{number % 100:02}"
        inside.mkdir(parents=True, exist_ok=True)
        text = f"# Note {number}\n\nThe {_sentence(chance, 12)}.\nNumber {number * 7919 % 104729} is {_sentence(chance, 6)}.\n"
        (inside / f"note-{number}.md").write_text(text)


def _write_memories(folder: Path, count: int) -> None:
    chance = random.Random(2)
    for number in range(count):
        kind = _KINDS[number // 7 % len(_KINDS)]
        inside = folder / f"agent-{number % _AGENTS:02}" / kind
        inside.mkdir(parents=True, exist_ok=True)
        file = inside / f"{number:05}.md"
        file.write_text(f"The {_sentence(chance, 8)} is {number}.\n")
        attributes = {"kind": kind, "confidence": f"{number % 100 / 100:.2f}", "source": f"knowledge/corpus/{number}"}
        attributes |= {"trust": ("normal", "trusted", "untrusted")[number % 3]}
        for name, value in attributes.items():
            os.setxattr(file, f"user.ctx.{name}", value.encode())


def _write_reviews(folder: Path, count: int) -> None:
    for number in range(count):
        inside = folder / f"r{number:05}"
        inside.mkdir(parents=True, exist_ok=True)
        days = number % 90 + 1
        conflict = {
            "kind": "number",
            "claimed": f"{days} days",
            "known": "30 days",
            "at": "knowledge/corpus/00/note-0.md:3",
        }
        about = {"task": "task-000", "why": f"number: '{days} days'", "suggested": "reject", "source": ""}
        (inside / "claim.md").write_text(f"Token {number} expires after {days} days.\n")
        (inside / "evidence.md").write_text("# From context/task-000\n\n> Tokens expire after 30 days.\n")
        (inside / "about.json").write_text(json.dumps({**about, "conflicts": [conflict]}))
        (inside / "verdict").write_text("")


def _open_archive(layout: Layout) -> None:
    archive = Archive(layout, "human:bench", 1_000_000)
    archive.open()
    archive.close()


def _write_versions(layout: Layout, count: int) -> None:
    """Import commits of one changed file each, then write the newest contents to the work tree."""
    contents: dict[str, str] = {}
    start_ns = time.time_ns()
    with subprocess.Popen(
        ["git", "--git-dir", str(layout.repo), "fast-import", "--quiet"], stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        for number in range(count):
            path = f"pad/versions/note-{number % _VERSIONED_FILES:03}.md"
            contents[path] = text = f"Note {number % _VERSIONED_FILES}, version {number}.\n" + "One line.\n" * 5
            agent = number // 50 % _AGENTS
            actor = Actor(f"agent:agent-{agent:02}", f"s-{number // 50}", "mcp", "a change")
            commit = Commit("", EMPTY_TREE, (), start_ns + number, actor, "write", f"write {path}")
            head, _, message = encode_commit(commit).decode().partition("\n\n")
            people = "\n".join(line for line in head.split("\n") if line.startswith(("author", "committer")))
            parent = f"from {BRANCH}^0\n" if number == 0 else ""
            record = f"commit {BRANCH}\n{people}\ndata {len(message.encode())}\n{message}\n{parent}"
            record += f"M 100644 inline {path}\ndata {len(text)}\n{text}\n"
            process.stdin.write(record.encode())
        process.stdin.close()
    if process.returncode:
        raise RuntimeError("git fast-import failed")
    for path, text in contents.items():
        file = layout.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def write_audit(folder: Path, count: int) -> None:
    """Write an audit of `count` records that ends now, as `Audit` writes it."""
    chance, link = random.Random(3), Link()
    days = -(-count // _RECORDS_PER_DAY)
    today = datetime.now(UTC)
    for day in range(days):
        date = today - timedelta(days=days - 1 - day)
        size = min(_RECORDS_PER_DAY, count - day * _RECORDS_PER_DAY)
        # The hour before now has the last records of today, the other days are even.
        step = timedelta(seconds=0.3)
        lines = bytearray()
        for number in range(size):
            at = date - (size - 1 - number) * (step if day == days - 1 else timedelta(seconds=0.1))
            agent = chance.randrange(_AGENTS)
            body = {
                "at": max(at, date.replace(hour=0, minute=0, second=0, microsecond=0)).isoformat(
                    timespec="milliseconds"
                ),
                "session": SESSION,
                "principal": f"agent:agent-{agent:02}",
                "op": chance.choice(_OPS),
                "path": f"knowledge/corpus/{number % 100:02}/note-{number}.md",
                "outcome": "EACCES" if number % 97 == 0 else "ok",
            }
            line, link = chain_record(body, link)
            lines += line
        file = folder / date.date().isoformat() / f"{SESSION}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(lines)
    (folder / "head").write_text(f"{link.seq} {link.hash}\n-\n")
