"""Run a real ctxfs for tests: the command line, daemon and kernel mount, each in its own process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import anyio
from mcp.client import Client as McpClient
from mcp.types import TextContent

from ctxfs.mcp_server.server import opened
from ctxfs.rpc.client import Client
from ctxfs.store.layout import Layout

Result = TypeVar("Result")
BOUND = 20.0


def make_corpus(folder: Path) -> Path:
    """Write Markdown, code, a dialogue, records, a binary, an ignored file, odd names and links into a folder."""
    files = {
        "rotation.md": "# Keys\n\nIntro.\n\n## Rotating keys\n\nRotate the signing keys every ninety days with `keyctl`.\n",
        "deploy.md": "# Deploying\n\nPush to main; the pipeline builds an image.\n\n## Rollback\n\nUse the previous tag.\n",
        "src/retry.py": 'def retry_request(url):\n    """Retry a failed HTTP request with backoff."""\n    return url\n',
        "chat.txt": "Ada: where is the runbook?\nBob: in the wiki.\nAda: thanks a lot.\nBob: any time.\n",
        "log.jsonl": '{"event": "login", "user": "ada"}\n{"event": "logout", "user": "bob"}\n',
        ".gitignore": "ignored.md\nbuild/\n",
        "ignored.md": "# Ignored\n\nThe zanzibar file is not indexed.\n",
        "build/out.md": "zanzibar too\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)))
    (folder / os.fsdecode(b"latin-\xe9.txt")).write_text("a name that is not UTF-8: quokka\n")
    (folder / "inside-link").symlink_to("rotation.md")
    (folder / "outside-link").symlink_to("/etc/hostname")
    return folder


def eventually(what: str, attempt: Callable[[], Result], bound: float = BOUND) -> Result:
    """Return the first true result of `attempt` within `bound` seconds.

    It polls, because no event crosses process boundaries.
    """
    end = time.monotonic() + bound
    while True:
        result = attempt()
        if result:
            return result
        assert time.monotonic() < end, f"not within {bound} s: {what}"
        os.sched_yield()
        time.sleep(0.005)


def code_of(act: Callable[[], object]) -> int:
    """Return the errno that `act` fails with, 0 if it succeeds."""
    try:
        act()
    except OSError as error:
        return error.errno or 0
    return 0


def children_of(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    pids: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        pids.extend(map(int, thread.read_text().split()))
    return pids


class Live:
    """One store in `folder`, with `at` as its mount point; `user` runs the commands."""

    def __init__(self, folder: Path, user: int | None = None) -> None:
        self.user = user
        self.store = folder / "store"
        self.at = folder / "mnt"
        self.corpus = folder / "corpus"
        self.tokens: dict[str, str] = {}  # by role, for tests that use roles

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `ctxfs`."""
        words = [sys.executable, "-m", "ctxfs", "--store", str(self.store), *arguments]
        if self.user is None:
            return words
        # The interpreter may lie in a directory that only root can search.
        identity = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        rights = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient")]
        return ["setpriv", *identity, *rights, *words]

    def try_run(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002 - as in subprocess
        """Run `ctxfs`; the caller checks the exit code."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, input=input, timeout=60, errors="surrogateescape"
        )

    def run(self, *arguments: str) -> str:
        """Run `ctxfs`, which must succeed, and return its output."""
        done = self.try_run(*arguments)
        assert done.returncode == 0, f"ctxfs {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Return the daemon's status."""
        client = Client(self.store / "run", timeout=10)
        try:
            response: dict[str, Any] = client.call("status")
            return response
        finally:
            client.close()

    def wait_idle(self) -> None:
        """Wait until everything is indexed, full text and vectors."""

        def idle() -> bool:
            index = self.status()["index"]
            return bool(index["state"] == "idle" and not index["waiting_for_meaning"] and index["searchable"])

        eventually("the index is idle", idle, 60)

    def errors(self) -> list[dict[str, Any]]:
        """Return the lines of errors.jsonl."""
        file = self.store / "run" / "errors.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def daemon_pid(self) -> int:
        """Return the pid of the process that owns the store."""
        return int((self.store / "run" / "lock").read_text())

    def mount_pid(self) -> int:
        """Return the pid of the process that serves `at`."""
        return int(next(mount["pid"] for mount in self.status()["mounts"] if mount["at"] == str(self.at)))

    def close(self) -> None:
        """Unmount and end the daemon, in any state of both."""
        self.try_run("unmount", "--all")
        for at in self.at.parent.glob("mnt*"):
            subprocess.run(["fusermount3", "-u", "-z", str(at)], capture_output=True)


def run_tool(live: Live, tool: str, *words: str, at: str = "mnt", stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a tool as a program of a mount, from the folder that contains the mount points."""
    program = live.at.parent / at / "tools" / tool / "run"
    return subprocess.run(
        [program, *words], capture_output=True, text=True, input=stdin, timeout=60, cwd=live.at.parent
    )


def mcp_call(live: Live, tool: str, arguments: Mapping[str, object], **proof: str) -> tuple[str, bool]:
    """Return the response of a tool to a real client and True if it is an error; `proof` is a principal or token."""

    async def call() -> tuple[str, bool]:
        async with opened(Layout(live.store), **proof) as server, McpClient(server) as client:
            done = await client.call_tool(tool, dict(arguments))
            return "".join(part.text for part in done.content if isinstance(part, TextContent)), bool(done.is_error)

    response: tuple[str, bool] = anyio.run(call, backend="trio")
    return response
