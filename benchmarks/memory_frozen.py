"""Attempts to change frozen memories: `python -m benchmarks.memory frozen [--attempts 2000] [--files 40] [--seed 1]`.

Real documents become memories and are frozen. An agent, and a person who does not lift the state, then attempt changes
through their mount points, through handles that were open before, through the daemon, MCP and commands, and by pulls.
An attempt has succeeded if it raises no error, or if content, attributes, mode, name or links of a file differ after.
"""

import argparse
import errno
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client as McpClient

from benchmarks.harness import Bench, bench
from ctxfs.mcp_server.server import opened
from ctxfs.model.change import Change, Move, Put, Remove, SetMeta
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import Layout
from ctxfs.store.rooted_fs import RENAME_EXCHANGE, rename_at

AGENT = "agent:alice"
FOLDER = Path("memory/alice/fact")
STATE = "user.ctx.state"
DOCUMENTS = Path("/usr/share/doc")
MIN_BYTES, MAX_BYTES = 200, 60_000
_MAX_COMMANDS = 24  # a command takes half a second
Attempt = Callable[[], object]


@dataclass
class Result:
    """The outcomes of the attempts of one surface."""

    attempts: int = 0
    refused: int = 0
    other: Counter[str] = field(default_factory=Counter)
    succeeded: list[str] = field(default_factory=list)


def documents(count: int, rng: random.Random) -> list[bytes]:
    """Return the contents of real text files of the machine."""
    paths = sorted(path for path in DOCUMENTS.glob("*/*") if path.is_file() and not path.is_symlink())
    rng.shuffle(paths)
    texts = (
        path.read_bytes() for path in paths if MIN_BYTES <= path.stat().st_size <= MAX_BYTES and path.suffix != ".gz"
    )
    return [text for text, _ in zip(texts, range(count), strict=False)]


def fingerprint(file: Path) -> tuple[object, ...]:
    """Return all that an attempt could change of a file: content, attributes, mode, owner, times and links."""
    stat = file.lstat()
    attributes = tuple((name, os.getxattr(file, name)) for name in sorted(os.listxattr(file)))
    numbers = stat.st_ino, stat.st_nlink, stat.st_mode, stat.st_uid, stat.st_mtime_ns
    return file.read_bytes(), attributes, numbers


def on_mount(file: Path, spare: Path) -> dict[str, Attempt]:
    """Return the attempts through a mount point; `spare` is a file beside it."""

    def exchange() -> None:
        parent = os.open(file.parent, os.O_PATH)
        try:
            rename_at(parent, os.fsencode(spare.name), parent, os.fsencode(file.name), RENAME_EXCHANGE)
        finally:
            os.close(parent)

    def close(fd: int) -> None:
        os.close(fd)

    return {
        "open to write": lambda: close(os.open(file, os.O_WRONLY)),
        "open to append": lambda: close(os.open(file, os.O_WRONLY | os.O_APPEND)),
        "open to read and write": lambda: close(os.open(file, os.O_RDWR | os.O_CREAT)),
        "O_TRUNC": lambda: close(os.open(file, os.O_RDONLY | os.O_TRUNC)),
        "write": lambda: file.write_bytes(b"x"),
        "truncate": lambda: os.truncate(file, 1),
        "unlink": lambda: os.unlink(file),
        "rename": lambda: os.rename(file, file.with_suffix(".moved")),
        "rename over": lambda: os.rename(spare, file),
        "exchange": exchange,
        "link": lambda: os.link(file, file.with_suffix(".link")),
        "rename of the directory": lambda: os.rename(file.parent, file.parent.with_suffix(".moved")),
        "rename of the directory above": lambda: os.rename(
            file.parent.parent, file.parent.parent.with_suffix(".moved")
        ),
        "rmtree": lambda: shutil.rmtree(file.parent),
        "setxattr": lambda: os.setxattr(file, "user.ctx.kind", b"episodic"),
        "setxattr of others": lambda: os.setxattr(file, "user.other", b"x"),
        "removexattr": lambda: os.removexattr(file, "user.ctx.source"),
        "chmod": lambda: os.chmod(file, 0o600),
        "chown": lambda: os.chown(file, os.getuid(), os.getgid()),
        "utimens": lambda: os.utime(file, (1, 1)),
    }


def by_handle(fd: int) -> dict[str, Attempt]:
    """Return the attempts through a handle that was open before the file was frozen."""
    return {
        "write": lambda: os.write(fd, b"x"),
        "pwrite": lambda: os.pwrite(fd, b"x" * 5000, 3),
        "ftruncate": lambda: os.ftruncate(fd, 0),
        "fallocate": lambda: os.posix_fallocate(fd, 0, 1 << 17),
        "fchmod": lambda: os.fchmod(fd, 0o600),
        "fsetxattr": lambda: os.setxattr(fd, "user.ctx.kind", b"episodic"),
        "futimens": lambda: os.utime(fd, (1, 1)),
        "copy_file_range": lambda: os.copy_file_range(fd, fd, 1, 0, 100),
    }


def by_daemon(call: Callable[..., Any], path: str, spare: str) -> dict[str, Attempt]:
    """Return the requests to the daemon."""
    file, other = TreePath.parse(path), TreePath.parse(spare)
    changes: dict[str, Change] = {
        "put": Put(file, b"x"),
        "put with a state": Put(file, b"x", {STATE: b"active"}),
        "remove": Remove(file),
        "move": Move(file, file.parent / "moved"),
        "move over": Move(other, file),
        "move of the directory": Move(file.parent, file.parent.parent / "moved"),
        "set an attribute": SetMeta(file, "user.ctx.kind", b"episodic"),
        "remove an attribute": SetMeta(file, "user.ctx.source", None),
    }
    return {
        **{name: partial(call, "apply", change=change_to_wire(change)) for name, change in changes.items()},
        "undo": lambda: call("undo", path=path),
        "restore": lambda: call("restore", path=path, to="prev"),
    }


MCP_CALLS: dict[str, dict[str, object]] = {
    "ctx_write": {"content": "x"},
    "ctx_write ": {"content": "x", "mode": "append"},
    "ctx_edit": {"edits": [{"old": "e", "new": "x", "all": True}]},
    "ctx_delete": {},
    "ctx_move": {"to": "memory/alice/fact/moved.md"},
}


class Run:
    """One run: the store, its frozen files, and the results by surface."""

    def __init__(self, setup: Bench, files: int, rng: random.Random) -> None:
        self.setup = setup
        self.rng = rng
        self.results: dict[str, Result] = {}
        self.agent_at = setup.folder / "mnt-alice"
        self.texts = documents(files, rng)
        self.names = [f"d{number}/x.md" for number in range(len(self.texts))]
        self.host = setup.store / "tree" / FOLDER

    def prepare(self, stack: ExitStack) -> None:
        """Make a store with two mount points and the files, open handles of all, and freeze them."""
        self.setup.ctxfs("init")
        self.setup.ctxfs("mount", str(self.setup.mountpoint))
        self.setup.ctxfs("mount", str(self.agent_at), "--principal", AGENT)
        for name in self.names:
            file = self.setup.mountpoint / FOLDER / name
            file.parent.mkdir(parents=True)
            file.write_bytes(b"an earlier version\n")
            (file.parent / "spare").write_bytes(b"spare\n")
        self.setup.ctxfs("commit")
        self.handles: list[int] = []
        for name, text in zip(self.names, self.texts, strict=True):
            file = self.setup.mountpoint / FOLDER / name
            file.write_bytes(text)
            os.setxattr(file, "user.ctx.source", b"knowledge/a.md")
            for at in (self.setup.mountpoint, self.agent_at):
                self.handles.append(os.open(at / FOLDER / name, os.O_RDWR))
                stack.callback(_close, self.handles[-1])
        self.setup.ctxfs("commit")
        for name in self.names:
            os.setxattr(self.setup.mountpoint / FOLDER / name, STATE, b"frozen")
        self.before = {name: fingerprint(self.host / name) for name in self.names}

    def attempt(self, surface: str, kind: str, name: str, act: Attempt, *, expects: int = errno.EPERM) -> None:
        """Make an attempt on a file, and compare the file with its state before."""
        result = self.results.setdefault(surface, Result())
        result.attempts += 1
        spare = self.host / name.replace("x.md", "spare")
        if not spare.exists():
            spare.write_bytes(b"spare\n")
        try:
            act()
        except OSError as error:
            outcome = errno.errorcode.get(error.errno or 0, "?")
            if error.errno == expects:
                result.refused += 1
            else:
                result.other[f"{kind}: {outcome}"] += 1
        else:
            result.succeeded.append(f"{kind}: no error")
        with suppress(OSError):
            if fingerprint(self.host / name) == self.before[name]:
                return
        result.succeeded.append(f"{kind}: the file differs")

    def attempts(self, count: int) -> None:
        """Make `count` attempts through mount points, handles and the daemon, in random order."""
        with ExitStack() as stack:
            calls = {}
            for principal in ("human", AGENT):
                client = stack.enter_context(closing(Client(self.setup.store / "run", timeout=60)))
                if principal == AGENT:
                    client.call("join", principal=AGENT)
                calls[principal] = client.call
            for _ in range(count):
                index = self.rng.randrange(len(self.names))
                name, is_agent = self.names[index], self.rng.random() < 0.5
                at, who = (self.agent_at, AGENT) if is_agent else (self.setup.mountpoint, "human")
                file = at / FOLDER / name
                surface, table = self.rng.choice(
                    (
                        ("mount point", on_mount(file, file.parent / "spare")),
                        ("handle from before", by_handle(self.handles[2 * index + is_agent])),
                        ("daemon", by_daemon(calls[who], f"{FOLDER}/{name}", f"{FOLDER}/{name[:-4]}spare")),
                    )
                )
                kind = self.rng.choice(list(table))
                self.attempt(f"{surface}, {'agent' if is_agent else 'person'}", kind, name, table[kind])

    def attempts_by_mcp(self, count: int) -> None:
        """Make attempts by tools of MCP, as the agent."""

        async def run() -> None:
            async with opened(Layout(self.setup.store), principal=AGENT) as server, McpClient(server) as client:
                for _ in range(count):
                    name, tool = self.rng.choice(self.names), self.rng.choice(list(MCP_CALLS))
                    done = await client.call_tool(tool.strip(), {"path": f"{FOLDER}/{name}", **MCP_CALLS[tool]})

                    def report(done: Any = done) -> None:
                        if done.is_error:
                            code = errno.EPERM if "frozen" in str(done.content) else errno.EIO
                            raise OSError(code, str(done.content))

                    self.attempt("MCP, agent", tool, name, report)

        anyio.run(run, backend="trio")

    def attempts_by_command(self, count: int) -> None:
        """Make attempts by commands of a person."""
        for number in range(count):
            name = self.rng.choice(self.names)
            path = f"{FOLDER}/{name}"
            commands = (
                ["meta", "set", path, "kind=episodic"],
                ["undo", path],
                ["restore", path, "--to", "prev"],
                ["restore", path, "--by-origin", "knowledge/a.md"],
                ["forget", path, "--yes"],
                ["forget", str(FOLDER), "--yes"],
            )
            command = commands[number % len(commands)]
            self.attempt("command, person", command[0], name, partial(self._run, command))

    def _run(self, command: list[str]) -> None:
        words = [sys.executable, "-m", "ctxfs", "--store", str(self.setup.store), *command]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise OSError(errno.EPERM if "frozen" in done.stderr else errno.EIO, done.stderr)

    def attempts_by_pull(self) -> None:
        """Pull from a clone that has changed each file: once from an untrusted and once from a trusted remote."""
        hub = self.setup.folder / "hub.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(hub)], check=True)
        for trust in ((), ("--trusted",)):
            remote = "trusted" if trust else "untrusted"
            self.setup.ctxfs("remote", "add", remote, str(hub), *trust)
            self.setup.ctxfs("remote", "push", "--replace", remote)
            for change in self._edit_clone(hub, remote):
                subprocess.run(change, check=True, capture_output=True)
            self.setup.ctxfs("remote", "pull", remote)
            for name in self.names:
                beside = list((self.host / name).parent.glob("x.conflict-*"))
                act: Attempt = _refuse if beside else lambda: None
                self.attempt(f"pull, {remote}", "pull", name, act)
                for file in beside:
                    file.unlink()
            self.setup.ctxfs("remote", "remove", remote)

    def _edit_clone(self, hub: Path, remote: str) -> Iterator[list[str]]:
        clone = self.setup.folder / f"clone-{remote}"
        yield ["git", "clone", "-q", str(hub), str(clone)]
        for name in self.names:
            (clone / FOLDER / name).write_bytes(b"theirs\n")
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        yield ["git", "-C", str(clone), *identity, "commit", "-qam", "theirs"]
        yield ["git", "-C", str(clone), "push", "-q"]


def _sum(results: Iterable[Result]) -> Result:
    total = Result()
    for result in results:
        total.attempts += result.attempts
        total.refused += result.refused
        total.other += result.other
        total.succeeded += result.succeeded
    return total


def _refuse() -> None:
    raise OSError(errno.EPERM, "the pull has kept both contents")


def _close(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)


def main() -> None:
    """Print a table of the attempts by surface."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--attempts", type=int, default=2000)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with bench() as setup, ExitStack() as stack:
        run = Run(setup, options.files, random.Random(options.seed))
        run.prepare(stack)
        commands, by_mcp = min(_MAX_COMMANDS, options.attempts // 20), options.attempts // 10
        pulls = 2 * len(run.names)
        run.attempts(max(0, options.attempts - commands - by_mcp - pulls))
        run.attempts_by_mcp(by_mcp)
        run.attempts_by_command(commands)
        run.attempts_by_pull()
    print(f"{len(run.names)} files, seed {options.seed}\n")
    print("| surface | attempts | EPERM | other errors | succeeded |\n|---|---|---|---|---|")
    for surface, result in (*sorted(run.results.items()), ("all", _sum(run.results.values()))):
        other = sum(result.other.values())
        print(f"| {surface} | {result.attempts} | {result.refused} | {other} | {len(result.succeeded)} |")
    for surface, result in run.results.items():
        for reason, count in (*result.other.most_common(5), *Counter(result.succeeded).most_common(5)):
            print(f"{surface}: {reason} ({count})")
    sys.exit(1 if _sum(run.results.values()).succeeded else 0)
