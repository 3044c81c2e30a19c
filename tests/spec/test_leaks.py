"""Test that files that an agent may not see have no effect on anything that it can see.

Two stores are alike but for files that the agent may not read. Every request of it, on the mount, over the socket,
through MCP, over HTTP and by the page of a browser, must get the same response from both: existence, names, sizes, counts, scores,
snippets, versions, errors. Different responses are leaks. A planted leak shows that each probe detects one: for a caller
that may see the files the responses do differ.

By default one role sends a third of the requests; with CTXFS_LEAK_ROLES=all all roles send all of them (`make
test-leaks`, more than 2,000 trials).
"""

import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ctxfs.model.change import MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import change_to_wire
from tests.live import Live, mcp_call
from tests.spec import citation_leaks, http_leaks, page_leaks
from tests.web.site import Visitor

pytestmark = pytest.mark.fuse

AGENT = "agent:mallory"
WORD = "zanzibar"
DAY = datetime.now(UTC).date().isoformat()
HIDDEN = {
    "memory/bob/fact/zanzibar.md": "The zanzibar lock opens with otter-7741. Signing keys rotate in zanzibar.\n",
    "memory/shared/sealed/zanzibar.md": "zanzibar: the signing keys are under the zanzibar mat.\n",
    "knowledge/handbook/secret/zanzibar.md": "# Zanzibar\n\nRotate the signing keys in zanzibar every day.\n",
    "human/notes/zanzibar.md": "zanzibar\n",
    "pad/t/zanzibár.md": "The zanzibar pad: otter-7741.\n",
    # The days of this export may be read: they have the ids of its users.
    "knowledge/handbook/chat/users.json": '[{"id": "U0OTTER7741", "real_name": "Zanzibar Otter", "name": "signing keys"}]\n',
    "memory/bob/zan zibar.txt": "Zanzibar: where are the signing keys?\nBob: in zanzibar.\nZanzibar: thanks a lot.\nBob: any time.\n",
}
USERS = "knowledge/handbook/chat/users.json"
CHAT = """[{"type": "message", "user": "U0OTTER7741", "text": "rotate the signing keys, <@U0OTTER7741>", "ts": "1740819600.1"},
{"type": "message", "user": "U0BOB", "text": "ask <@U0OTTER7741> for the keys", "ts": "1740819601.1"}]
"""
OPEN = "memory/shared/** knowledge/** pad/** search/** context/** .ctxfs/whoami"
RULES = '\n[groups]\ntrusted = ["agent:trent"]\nguests = []\nseers = []\n' + "".join(
    f'\n[[rule]]\nprincipal = "{who}"\npath = "{path}"\nverbs = "{verbs}"\n{more}\n'
    for who, path, verbs, more in (
        *(
            (who, path, "lrwxa", 'effect = "deny"')
            for who in ("agent:*", "group:guests")
            for path in (
                "memory/shared/sealed",
                "knowledge/handbook/secret",
                "pad/t/zanzibár.md",
                USERS,
                citation_leaks.HIDDEN_MEMORY,
                *http_leaks.DENIED,
            )
        ),
        ("group:trusted", "memory/shared/**", "rw", ""),
        # A rule of people for context/** opens the contexts of others.
        *(("group:guests", path, "rw", "") for path in OPEN.split() if path != "context/**"),
        *((http_leaks.SEERS, path, "lrw", "") for path in http_leaks.SEEN),
        ("agent:oscar", "memory/bob/**", "rw", "expires = 2020-01-01T00:00:00Z"),
        ("agent:oscar", "memory/mallory/**", "r", ""),
    )
)
# The requesting roles: a plain agent, the same with a token, with one that allows less, a group, a member of one that
# may do more, and an agent that was once allowed to see the files.
ROLES = {
    "agent": (AGENT, None),
    "token": (AGENT, []),
    "narrow": (AGENT, [f"{path}:{'rw' if path[0] in 'psc' else 'r'}" for path in OPEN.split()]),
    "group": ("group:guests", None),
    "member": ("agent:trent", None),
    "late": ("agent:oscar", None),
}
# For half a second after a commit of the index, a search directory shows the results from before it.
STEADY_SECONDS = 2.0
WHOLE = os.environ.get("CTXFS_LEAK_ROLES") == "all"
ASKED = list(ROLES) if WHOLE else ["agent"]
QUESTIONS = (
    WORD, "signing keys", "rotate the signing keys", f"+{WORD} keys", f'"{WORD} lock"', f"mode:exact {WORD}", f"mode:words {WORD}",
    "kind:fact", "path:secret", f"author:{WORD}", "tag:deploy",
    # Typos of a hidden word are not corrected for those that may not read it.
    "mode:words zanzibr", "zanzibarr keys", "mode:words ottter",
    "path:chat keys", "what did Zanzibar say of the keys", "mode:words otter keys", "speaker:otter keys",
)  # fmt: skip

HIDDEN_RECORDS = [
    {"kind": "output", "text": f"The {WORD} lock opens with otter-7741. Rotate the signing keys, all {number} of them.",
     "speaker": "Zanzibar", "said_at": "2025-03-01T10:00:00Z", "client_session": f"{WORD}-7"}
    for number in range(20)
]  # fmt: skip
HISTORY_QUESTIONS = (
    "kind:history", "kind:history signing keys", f"kind:history {WORD}", f"session:{WORD}", f"session:{WORD}-7 keys",
    f"speaker:{WORD} keys", "Zanzibar keys", "said:2025-03 keys", "said:2025-03-01", "path:history keys", "mode:exact otter-7741",
)  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Live]]:
    """Yield (a store without the hidden files, one with them), mounted for each role at `mnt-<role>`.

    A person's mount is at `mnt-ada`.
    """
    made = []
    for name in ("without", "with"):
        live = Live(tmp_path_factory.mktemp(name))
        made.append(live)
        live.corpus.mkdir()
        for file, text in (
            ("rotation.md", "# Keys\n\nRotate the signing keys every ninety days.\n"),
            ("deploy.md", "# Deploy\n\nPush to main.\n"),
            ("chat/general/2025-03-01.json", CHAT),
        ):
            (live.corpus / file).parent.mkdir(parents=True, exist_ok=True)
            (live.corpus / file).write_text(text)
        live.run("init")
        config = live.store / "ctxfs.toml"
        config.write_text(config.read_text() + RULES)
        live.run("add", str(live.corpus), "--name", "handbook")
        tree = live.store / "tree"
        for file_path, text in (
            ("memory/shared/known.md", "Signing keys are known to everybody.\n"),
            ("memory/mallory/own.md", "My own keys.\n"),
            ("pad/t/x.md", "scratch\n"),
        ):
            (tree / file_path).parent.mkdir(parents=True, exist_ok=True)
            (tree / file_path).write_text(text)
        if name == "with":
            hide(live)
        citation_leaks.plant(tree, HIDDEN, with_hidden=name == "with")
        http_leaks.plant(tree, with_hidden=name == "with")
        live.run("mount", str(live.at.parent / "mnt-ada"))
        for role in ASKED:
            principal, allow = ROLES[role]
            proof = ["--as", principal]
            if allow is not None:
                options = [option for pattern in allow for option in ("--allow", pattern)]
                live.tokens[role] = live.run("token", "issue", principal, *options).strip()
                proof = ["--token", live.tokens[role]]
            live.run("mount", str(live.at.parent / f"mnt-{role}"), *proof)
        live.wait_idle()
        assert live.status()["policy"]["fault"] == ""
        live.run("commit")
        live.run("snapshot", "first")
        live.run("branch", "idea")
        for path in HIDDEN if name == "with" else ():
            if path.startswith(("memory/", "pad/")):
                with (live.at.parent / "mnt-ada" / path).open("a") as file:
                    file.write(f"Later: {WORD}.\n")
        live.run("commit")
        client = Client(live.store / "run", timeout=30)
        client.call("record", said=[{"kind": "note", "text": "common"}], session="people")
        if name == "with":
            client.call("record", said=[{"kind": "note", "text": WORD}, *HIDDEN_RECORDS], session=WORD)
            client.call("call_tool", name="extract", arguments={"text": WORD}, id=f"c-{WORD}")
            derive(live)
        client.close()
    yield made[0], made[1]
    for live in made:
        page_leaks.close(live)
        http_leaks.close(live)
        live.close()


def hide(live: Live) -> None:
    for path, text in HIDDEN.items():
        area, _, rest = path.partition("/")
        file = live.corpus / rest.removeprefix("handbook/") if area == "knowledge" else live.store / "tree" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.setxattr(file, "user.ctx.tags", b"deploy")
        if area == "memory":
            os.setxattr(file, "user.ctx.supersedes", b"memory/shared/known.md")


DERIVED = f"context/{WORD}-task"
MADE = ("", "/request.toml", "/context.md", "/manifest.json", "/response.md", "/evaluation.json", "/loads.jsonl")
MADE += ("/window-agent-bob.json", "/response.context.json")


def derive(live: Live) -> None:
    """Build another agent's context, in every form, and save a query of it."""
    client = Client(live.store / "run", timeout=30)
    client.call("join", principal="agent:bob")
    for change in (
        MakeDir(TreePath.parse(DERIVED)),
        Put(TreePath.parse(f"{DERIVED}/request.toml"), f'query = "{WORD} lock"\nbudget = 300\n'.encode()),
        Put(TreePath.parse(f"{DERIVED}/response.md"), f"The {WORD} lock opens with otter-7741.\n".encode()),
        MakeDir(TreePath.parse(f"search/{WORD} lock")),
    ):
        client.call("apply", change=change_to_wire(change))
    for name in ("context.md", "stream", "delta.md"):
        assert WORD in client.call("read", path=f"{DERIVED}/{name}").decode()
    client.close()
    live.run("commit")


class PrincipalClient:
    """One principal's access to one store: a mount point and a socket session.

    `proof` holds the arguments of `join`; it is empty for a person.
    """

    def __init__(self, live: Live, at: Path, **proof: str) -> None:
        self.at = at
        self.live = live
        self.client = Client(live.store / "run", timeout=30)
        if proof:
            self.client.call("join", **proof)
        self.proof = proof

    def close(self) -> None:
        self.client.close()

    def call(self, method: str, /, **arguments: object) -> Any:
        return self.client.call(method, **arguments)

    @cached_property
    def page(self) -> Visitor:
        """The principal's session of the page."""
        return page_leaks.visitor_of(self.live, self.proof)

    def change(self, change: Any) -> Any:
        return self.client.call("apply", change=change_to_wire(change))

    def mcp(self, tool: str, **arguments: object) -> str:
        return mcp_call(self.live, tool, arguments, **self.proof)[0]


PAST = (
    ".snapshots .snapshots/now .snapshots/now/memory .snapshots/now/memory/shared .snapshots/first/memory memory/.versions "
    "memory/shared/.versions"
)
Probe = Callable[[PrincipalClient], Any]
PROBES: dict[str, Probe] = {}


def on_mount(name: str, act: Callable[[Path], Any]) -> None:
    PROBES[f"mount {name}"] = lambda caller: act(caller.at)


def shell(name: str, command: str) -> None:
    def run(caller: PrincipalClient) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=caller.at, capture_output=True, text=True, errors="replace", timeout=60
        )
        return f"{done.returncode}\n{done.stdout}\n{done.stderr}"

    PROBES[f"shell {name}"] = run


def rpc(probe: str, method: str, **arguments: object) -> None:
    PROBES[f"rpc {probe}"] = lambda caller: caller.call(method, **arguments)


def opened(path: Path, flags: int) -> str:
    fd = os.open(path, flags)
    try:
        return repr(os.read(fd, 200)) if flags & os.O_ACCMODE != os.O_WRONLY else "open"
    finally:
        os.close(fd)


shell("find", "find memory knowledge pad human history -not -path 'history/2*' 2>&1 | sort")
shell("ls -la", "ls -la --time-style=+ . memory memory/shared knowledge/handbook | sed 's/  */ /g'")
shell("du", "du -ab --apparent-size memory knowledge pad | sort -k2")
shell("grep -r", f"grep -ri {WORD} memory knowledge pad 2>&1 | sort")
shell("glob", "echo memory/* memory/*/* knowledge/*/*")
shell("past", f"ls {PAST} 2>&1")
shell("control", "ls .ctxfs; cat .ctxfs/whoami; cat .ctxfs/status .ctxfs/errors.jsonl .ctxfs/mounts 2>&1")
shell("history", "ls -R history 2>&1 | sed 's/[0-9-]\\{10\\}/DAY/g'")
shell("tar", f"tar cf - memory knowledge 2>&1 | grep -ac {WORD}")
for path in HIDDEN:
    parent, name = path.rsplit("/", 1)
    for what, act in {
        "stat": lambda at, p=path: str(os.lstat(at / p).st_size),
        "open": lambda at, p=path: opened(at / p, os.O_RDONLY),
        "write": lambda at, p=path: opened(at / p, os.O_WRONLY),
        "truncate": lambda at, p=path: os.truncate(at / p, 0),
        "chmod": lambda at, p=path: os.chmod(at / p, 0o600),
        "xattrs": lambda at, p=path: os.listxattr(at / p),
        "tags": lambda at, p=path: os.getxattr(at / p, "user.ctx.tags"),
        "sha256": lambda at, p=path: os.getxattr(at / p, "user.ctx.sha256"),
        "label": lambda at, p=path: os.setxattr(at / p, "user.ctx.kind", b"fact"),
        "unlink": lambda at, p=path: os.unlink(at / p),
        "list above": lambda at, p=parent: sorted(os.listdir(at / p)),
        "rmdir above": lambda at, p=parent: os.rmdir(at / p),
        "rename out": lambda at, p=path: os.rename(at / p, at / "memory/mallory/stolen.md"),
        "rename above out": lambda at, p=parent: os.rename(at / p, at / "memory/mallory/stolen"),
        "link out": lambda at, p=path: os.link(at / p, at / "memory/mallory/stolen.md"),
        "versions": lambda at, p=parent, n=name: sorted(os.listdir(at / p / ".versions" / n)),
        "version": lambda at, p=parent, n=name: len((at / p / ".versions" / n / "latest").read_bytes()),
        "versions from above": lambda at, p=path: sorted(os.listdir(at / ".versions" / p)),
        "snapshot": lambda at, p=path: (at / ".snapshots" / "now" / p).read_text(),
        "snapshot stat": lambda at, p=path: os.lstat(at / ".snapshots" / "first" / p).st_size,
        "branch": lambda at, p=path: (at / ".branches" / "idea" / p).read_text(),
        "branch stat": lambda at, p=path: os.lstat(at / ".branches" / "idea" / p).st_size,
        "branch list": lambda at, p=parent: sorted(os.listdir(at / ".branches" / "idea" / p)),
        "asked in a branch": lambda at: sorted(os.listdir(at / ".branches" / "idea" / "search" / WORD)),
        "asked there": lambda at, p=parent: sorted(os.listdir(at / p / ".search" / WORD)),
        "through a link": lambda at, p=path: _through_link(at, p),
        "dots": lambda at, p=path: (at / "pad" / ".." / p).read_text(),
    }.items():
        on_mount(f"{what} {path}", act)
    for method in ("stat", "read", "read_labelled", "read_extracted", "list", "metadata"):
        rpc(f"{method} {path}", method, path=path)
        rpc(f"{method} past {path}", method, path=f".snapshots/now/{path}")
    rpc(f"log {path}", "log", path=path)
    rpc(f"content {path}", "content_of", path=path, sha256=hashlib.sha256(HIDDEN[path].encode()).hexdigest()[:12])
    rpc(f"tool on {path}", "call_tool", name="extract", arguments={"file": path})
    rpc(f"tool on a version of {path}", "call_tool", name="diff-summary", arguments={"file": path, "since": "1"})
    rpc(f"tool in {parent}", "call_tool", name="git", arguments={"command": "log", "repo": parent})
    rpc(f"show {path}", "show", path=path, at="latest")
    rpc(f"diff {path}", "diff", path=path, old="first", new="latest")
    rpc(f"diff change {path}", "diff", path=path, old="prev", new="latest")
    rpc(f"log until {path}", "log", path=path, at="latest")
    rpc(f"blame {path}", "blame", path=path)
    rpc(f"restore {path}", "restore", path=path, to="first", dry_run=True)
    rpc(f"undo {path}", "undo", path=path, dry_run=True)
    for verb, change in {
        "remove": Remove(TreePath.parse(path)),
        "label": SetMeta(TreePath.parse(path), "user.ctx.kind", b"fact"),
        "move": Move(TreePath.parse(path), TreePath.parse("memory/mallory/stolen.md")),
    }.items():
        PROBES[f"rpc {verb} {path}"] = lambda caller, c=change: caller.change(c)
    PROBES[f"rpc pin {path}"] = lambda caller, p=path: caller.call(
        "context", request={"query": "keys", "budget": 500, "pins": [p]}
    )["text"]
    PROBES[f"rpc verify {path}"] = lambda caller, p=path: _verified(caller, p)
    PROBES[f"rpc guess {path}"] = lambda caller, p=path: _guessed(caller, HIDDEN[p])
    PROBES[f"mcp read {path}"] = lambda caller, p=path: caller.mcp("ctx_read", path=p)
    for near in (
        f"{path[:-1]}x",
        f"{parent[:-1]}x/{name}",
    ):  # its error names the nearest paths that the caller may see
        rpc(f"nearest {near}", "nearest", path=near)
        PROBES[f"mcp read {near}"] = lambda caller, p=near: caller.mcp("ctx_read", path=p)
    PROBES[f"mcp list {path}"] = lambda caller, p=parent: caller.mcp("ctx_list", path=p)
for name in MADE:
    path = DERIVED + name
    for method in ("stat", "read", "list", "metadata"):
        rpc(f"{method} {path}", method, path=path)
        rpc(f"{method} now {path}", method, path=f".snapshots/now/{path}")
        rpc(f"{method} past {path}", method, path=f"context/.versions/{path.partition('/')[2]}")
    for method, extra in {
        "log": {},
        "show": {"at": "latest"},
        "diff": {"old": "first", "new": "latest"},
        "blame": {},
        "restore": {"to": "latest", "dry_run": True},
        "undo": {"dry_run": True},
    }.items():
        rpc(f"{method} {path}", method, path=path, **extra)
    on_mount(f"stat {path}", lambda at, p=path: str(os.lstat(at / p).st_size))
    on_mount(f"open {path}", lambda at, p=path: opened(at / p, os.O_RDONLY))
    PROBES[f"rpc remove {path}"] = lambda caller, p=path: caller.change(Remove(TreePath.parse(p)))
    PROBES[f"mcp read {path}"] = lambda caller, p=path: caller.mcp("ctx_read", path=p)
for path in (
    "context",
    "search",
    "context/.versions",
    "search/.versions",
    ".snapshots/now/context",
    ".snapshots/now/search",
):
    on_mount(f"names {path}", lambda at, p=path: sorted(os.listdir(at / p)))
    rpc(f"names {path}", "list", path=path)
    PROBES[f"mcp names {path}"] = lambda caller, p=path: caller.mcp("ctx_list", path=p, depth=2)
rpc("log of contexts", "log", path="context", changes=True)
rpc("curate", "curate", task=f"{WORD}-task")
for question in QUESTIONS:
    quoted = question.replace('"', '\\"')
    rpc(f"search {question}", "search", question=question, limit=100)
    rpc(f"search below {question}", "search", question=question, below="memory", limit=100)
    on_mount(f"search {question}", lambda at, q=question: _answers(at / "search" / q))
    on_mount(f"search below {question}", lambda at, q=question: _answers(at / "memory" / ".search" / q))
    PROBES[f"rpc context {question}"] = lambda caller, q=question: _context(caller, q)
    PROBES[f"mcp search {question}"] = lambda caller, q=question: caller.mcp("ctx_search", query=q, limit=50)
    PROBES[f"mcp context {question}"] = lambda caller, q=question: caller.mcp("ctx_context", task=q, budget=600)
for question in HISTORY_QUESTIONS:
    rpc(f"search history {question}", "search", question=question, limit=100)
    rpc(f"search below history {question}", "search", question=question, below="history", limit=100)
    on_mount(f"search history {question}", lambda at, q=question: _answers(at / "search" / q))
    on_mount(f"search below history {question}", lambda at, q=question: _answers(at / "history" / ".search" / q))
    PROBES[f"rpc context of history {question}"] = lambda caller, q=question: _context(caller, q)
    PROBES[f"mcp search history {question}"] = lambda caller, q=question: caller.mcp("ctx_search", query=q, limit=50)
    PROBES[f"mcp context of history {question}"] = lambda caller, q=question: caller.mcp(
        "ctx_context", task=q, budget=600
    )
for method in ("stat", "read", "read_labelled", "list", "metadata"):
    rpc(f"{method} of a session's file", method, path=f"history/{DAY}/{WORD}.jsonl")
on_mount("session's file", lambda at: (at / "history" / DAY / f"{WORD}.jsonl").read_text())
rpc("grep below history", "grep", pattern="otter-[0-9]+", below="history")
rpc("grep below a session's file", "grep", pattern=".", below=f"history/{DAY}/{WORD}.jsonl")
rpc("glob history", "glob", pattern="history/**")
rpc("pin of a record", "context", request={"query": "keys", "budget": 500, "pins": [f"history/{DAY}/{WORD}.jsonl:1"]})
for filters in ("kind:history", f"session:{WORD}", "said:2025"):
    rpc(f"find history {filters}", "find", filters=filters)
for filters in ("tag:deploy", "kind:fact", "path:secret", "since:2001-01-01"):
    rpc(f"find {filters}", "find", filters=filters)
for pattern in ("*.md", "memory/**", "**/*zanzi*"):
    rpc(f"glob {pattern}", "glob", pattern=pattern)
for pattern in (WORD, "signing keys", ".", "otter-[0-9]+"):
    rpc(f"grep {pattern}", "grep", pattern=pattern)
    rpc(f"grep count {pattern}", "grep", pattern=pattern, only="count")
rpc("log of everything", "log", path="")
rpc("log of own memory until first", "log", path="memory/mallory", at="first")
for at in ("first", "latest"):
    rpc(f"change of visible memory at {at}", "diff", path="memory/shared/known.md", old="prev", new=at)
rpc("log of memory", "log", path="memory", changes=True)
rpc("status", "status")
rpc("audit", "audit")
rpc("tokens", "tokens")
rpc("policy", "policy")
rpc("decision", "decide_policy", principal="human:root", verb="read", path="memory/bob/fact/zanzibar.md")
rpc("whoami", "whoami")
rpc("history", "history")
rpc("session names", "session_names")
rpc("sessions", "sessions")
rpc("records of a session", "session_records", session=WORD)
rpc("day of sessions", "session_day")
SUMMARY = f"history/by-session/{WORD}/summary.md"
on_mount("summary of a session", lambda at: (at / SUMMARY).read_text())
on_mount("stat of a summary", lambda at: str(os.lstat(at / SUMMARY).st_size))
on_mount("xattrs of a summary", lambda at: os.listxattr(at / SUMMARY))
rpc("read of a summary", "read_labelled", path=SUMMARY)
rpc("attributes of a summary", "metadata", path=SUMMARY)
PROBES["mcp read of a summary"] = lambda caller: caller.mcp("ctx_read", path=SUMMARY)
rpc("tools", "tools")
rpc("calls of tools", "list", path="tools/extract/calls")
rpc("all calls", "calls")
rpc("a tool", "tool", name="extract")
rpc("which tool", "search", question="zanzibar keys", below="tools")
rpc("snapshots", "snapshots")
rpc("reviews", "reviews")
rpc("remotes", "remotes")
rpc("mountpoints", "mountpoints")
PROBES["context task"] = lambda caller: _task(caller)
PROBES.update(citation_leaks.probes(HIDDEN))
PROBES.update(page_leaks.probes(HIDDEN, (*QUESTIONS, *HISTORY_QUESTIONS), WORD))
PROBES.update(http_leaks.probes(HIDDEN, (*QUESTIONS, *HISTORY_QUESTIONS), WORD))


def _guessed(caller: PrincipalClient, text: str) -> Any:
    """Write the hidden text as a guess: the writer must not learn that it exists.

    The metadata of the file may depend on visible files only.
    """
    path = TreePath.parse("memory/mallory/guess.md")
    response = caller.change(Put(path, (text + "Signing keys are known to everybody.\n").encode()))
    told = caller.call("metadata", path=str(path))
    caller.change(Remove(path))
    return response, sorted(name for name in told if "ctx." not in name or "trust" in name or "source" in name)


def _through_link(at: Path, path: str) -> str:
    link = at / "pad" / "t" / "link"
    link.symlink_to(at / path)
    try:
        return link.read_text()
    finally:
        link.unlink()


def _answers(folder: Path) -> list[str]:
    names = sorted(os.listdir(folder))
    return [
        *names,
        (folder / "results.jsonl").read_text(),
        (folder / "context.md").read_text(),
        (folder / "context@200.md").read_text(),
    ]


def _context(caller: PrincipalClient, question: str) -> Any:
    built = caller.call("context", request={"query": question, "budget": 800})
    manifest = json.loads(built["manifest"])
    return (
        built["text"],
        built["found"],
        built["notes"],
        {k: manifest[k] for k in manifest if k not in ("revision", "principal")},
    )


def _verified(caller: PrincipalClient, path: str) -> Any:
    manifest = json.loads(caller.call("context", request={"query": "keys", "budget": 500, "fill": True})["manifest"])
    for item in manifest["items"]:
        item["path"], item["sha256"] = path, hashlib.sha256(HIDDEN[path].encode()).hexdigest()
    result = caller.call("verify_context", manifest=json.dumps(manifest).encode())
    return result["same"], result["missing"]


def _task(caller: PrincipalClient) -> Any:
    task = caller.at / "context" / "leaky"
    with contextlib.suppress(FileExistsError):
        task.mkdir()
    (task / "request.toml").write_text(f'query = "{WORD} signing keys"\nbudget = 900\n')
    text = (task / "context.md").read_text()
    manifest = json.loads((task / "manifest.json").read_text())
    stream = (task / "stream").read_text()
    (task / "response.md").write_text(f"The {WORD} lock opens with otter-7741.\n")
    evaluation = json.loads((task / "evaluation.json").read_text())
    caller.change(Remove(TreePath.parse("context/leaky")))
    return (
        text,
        len(manifest["items"]),
        manifest["excluded" if "excluded" in manifest else "items"],
        stream,
        evaluation["claims"],
    )


def observe(probe: Probe, caller: PrincipalClient) -> str:
    """Return the result of a probe, without the parts that differ between any two stores."""
    try:
        told = probe(caller)
    except OSError as error:
        told = f"{errno.errorcode.get(error.errno or 0, error.errno)} {error.strerror}"
    except Exception as error:  # a CommandError contains information, too
        told = f"{type(error).__name__} {getattr(error, 'message', error)}"
    text = (
        told
        if isinstance(told, str)
        else json.dumps(
            told, default=lambda data: data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        )
    )
    text = text.replace(str(caller.live.store.parent), "STORE")
    text = re.sub(r"#[0-9a-f]{8}\b", "#TOKEN", text)
    text = re.sub(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{64}\b|mount-[0-9a-f]{8}|[ds]-[0-9a-f]{8}", "ID", text)
    text = re.sub(r"\b[0-9a-f]{16}-[0-9a-f]+-[0-9a-f]+\b", "VERSION", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T_ ]\d\d[:-]\d\d[:-]\d\d[.\d]*(Z|\+00:00)?", "TIME", text)
    return re.sub(r"(?<![0-9])1[0-9]{18}(?![0-9])|\"seq\": \d+|\d{9,}\.\d+", "N", text)


@pytest.fixture(scope="module")
def callers(pair: tuple[Live, Live]) -> Iterator[dict[str, tuple[PrincipalClient, PrincipalClient]]]:
    with contextlib.ExitStack() as stack:

        def caller(live: Live, role: str) -> PrincipalClient:
            token = live.tokens.get(role)
            proof = {"token": token} if token else {"principal": ROLES[role][0]}
            return stack.enter_context(
                contextlib.closing(PrincipalClient(live, live.at.parent / f"mnt-{role}", **proof))
            )

        yield {role: (caller(pair[0], role), caller(pair[1], role)) for role in ASKED}


def test_there_are_many_surfaces() -> None:
    assert len(PROBES) * len(ROLES) >= 2000
    kinds = {re.sub(r" (memory|knowledge|human|pad)/\S+$", "", name) for name in PROBES}
    assert len(kinds) >= 40


@pytest.mark.parametrize("name", [name for name in PROBES if WHOLE or zlib.crc32(name.encode()) % 3 == 0])
@pytest.mark.parametrize("role", ASKED)
def test_probes_reveal_no_hidden_file(
    role: str, name: str, callers: dict[str, tuple[PrincipalClient, PrincipalClient]]
) -> None:
    def observe_both() -> tuple[str, str]:
        without, with_them = (observe(PROBES[name], caller) for caller in callers[role])
        return without, with_them

    without, with_them = observe_both()
    if with_them != without:  # one store may have indexed the writes of earlier probes when the other has not
        for caller in callers[role]:
            caller.live.wait_idle()
        end = time.monotonic() + STEADY_SECONDS
        while with_them != without and time.monotonic() < end:
            without, with_them = observe_both()
    assert with_them == without


def test_denied_file_still_exists_for_people(pair: tuple[Live, Live]) -> None:
    ada = pair[1].at.parent / "mnt-ada"
    for path, text in HIDDEN.items():
        assert (ada / path).read_text().startswith(text)
    assert shutil.which("bash")
    with contextlib.closing(PrincipalClient(pair[1], ada)) as caller:
        caller.change(MakeDir(TreePath.parse("pad/by-people")))
        caller.change(Put(TreePath.parse("pad/by-people/x"), b"x"))


# Probes that cannot distinguish the stores even for a person: sources have no versions and take no changes, human/ is
# another file system than memory/, an area's folder with content stays, and some responses concern the store.
BLIND = re.compile(
    r"mount (versions?|versions from above|snapshot( stat)?) knowledge/"
    r"|rpc (log|log until|show|diff|diff change|blame|restore|undo|remove|label|move) knowledge/"
    r"|rpc (diff|diff change|move) human/|mount (rmdir|rename) above.* (pad/|knowledge/handbook/chat/)|rpc move pad/|.*author:"
    r"|(mount|rpc) search below (path|speaker):"
    r"|(rpc|mcp|mount) (\w+|\w+ (now|past)) context/zanzibar-task.*|(mcp|mount|rpc) names context$"
    r"|rpc guess |rpc (policy|decision|whoami|reviews|remotes|mountpoints|tokens|tools|a tool|which tool)$"
    r"|rpc tool in (human/|knowledge/handbook/chat$)|rpc change of visible memory at "
    r"|page (versions|blame|diff|then|time|time above|version|slider|undo|restore) knowledge/"
    r"|page (access/policy|file|origin)$|page explain |page impact human/|rpc nearest pad/|mcp read pad/x/"
    # A group is no administrator and sees no records of people; an area's folder is there with its content or without.
    r"|http (log|blame|show|diff|undo) knowledge/|http diff human/|http (get above|rpc checksum) (pad/|knowledge/handbook/chat/)"
    r"|http (method|records) |http (search|context) (kind:history|session:|said:|path:history)|http write new "
    rf"|http (store|memories|memory|write memory) {http_leaks.OPEN_STORE}|http memory {http_leaks.HIDDEN_STORE}"
)
CHANGES = ("unlink", "rmdir", "rename", "remove", "move", "truncate", "write", "restore", "undo", "label", "chmod")


def _changes(name: str) -> bool:
    return any(word in name for word in CHANGES)


def test_probes_detect_a_planted_leak(pair: tuple[Live, Live]) -> None:
    """The probes of a person, who may see everything, distinguish the two stores, except for those listed above."""
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(contextlib.closing(PrincipalClient(live, live.at.parent / "mnt-ada"))) for live in pair
        )
        blind = []
        for name in sorted(PROBES, key=_changes):
            if _changes(name):  # undo the changes of the last probe
                hide(pair[1])
                for caller in (one, two):
                    (caller.at / "pad" / "t").mkdir(exist_ok=True)
                    subprocess.run(["rm", "-rf", *caller.at.glob("memory/mallory/stolen*")], check=True)
            if observe(PROBES[name], one) == observe(PROBES[name], two):
                blind.append(name)
    unexpected = [name for name in blind if not BLIND.match(name)]
    assert unexpected == [], "\n".join(unexpected)


MAX_TIMINGS = 4  # a load of the machine passes, a leak stays
# A hidden path must take as long as a missing one: (request for it, request for a missing path, repetitions).
TIMED: dict[str, tuple[Probe, Probe, int]] = {
    "stat": (lambda a: a.call("stat", path=_SHUT), lambda a: a.call("stat", path=_ABSENT), 150),
    "read": (lambda a: a.call("read", path=_SHUT), lambda a: a.call("read", path=_ABSENT), 150),
    "log": (lambda a: a.call("log", path=_SHUT), lambda a: a.call("log", path=_ABSENT), 150),
    "list": (lambda a: a.call("list", path="memory/bob"), lambda a: a.call("list", path="memory/bub"), 150),
    "nearest": (lambda a: a.call("nearest", path=_SHUT), lambda a: a.call("nearest", path=_ABSENT), 60),
    "stat on a mount": (lambda a: os.lstat(a.at / _SHUT), lambda a: os.lstat(a.at / _ABSENT), 300),
    "search": (lambda a: a.call("search", question=WORD), lambda a: a.call("search", question="zenzibor"), 60),
    "search history": (
        lambda a: a.call("search", question=f"kind:history {WORD}"),
        lambda a: a.call("search", question="kind:history zenzibor"),
        60,
    ),
    "grep": (lambda a: a.call("grep", pattern="otter-7741"), lambda a: a.call("grep", pattern="otter-1774"), 60),
}
_SHUT, _ABSENT = "memory/bob/fact/zanzibar.md", "memory/bub/fact/zenzibor.md"


@pytest.mark.parametrize("name", TIMED)
def test_hidden_path_takes_as_long_as_a_missing_one(
    name: str, callers: dict[str, tuple[PrincipalClient, PrincipalClient]]
) -> None:
    hidden, absent, rounds = TIMED[name]
    caller = callers["agent"][1]
    ratios = list[float]()
    while len(ratios) < MAX_TIMINGS and not (ratios and 0.67 < ratios[-1] < 1.5):
        times: dict[str, list[float]] = {"hidden": [], "absent": []}
        for _ in range(rounds):
            for kind, probe in random.sample([("hidden", hidden), ("absent", absent)], 2):
                start = time.perf_counter()
                with contextlib.suppress(OSError):
                    probe(caller)
                times[kind].append(time.perf_counter() - start)
        shut, missing = (statistics.median(times[kind]) for kind in ("hidden", "absent"))
        ratios.append(shut / missing)
    assert 0.67 < ratios[-1] < 1.5, f"a hidden path takes {ratios} times as long as a missing one"
