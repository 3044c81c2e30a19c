"""Requests over HTTP about files that the client may not see: methods, files, `/rpc` and the memory stores.

Persons have no tokens. The requests of a person, which have to reveal the hidden files, are those of a group that may see
them (`SEERS`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ctxfs.serve.memory_stores.store_records import StoreRecord
from tests.live import Live
from tests.serve.server import Answer, Server, issue_token

SEERS = "group:seers"
SEEN = "memory/** knowledge/** pad/** human/** search/** context/** .ctxfs/**".split()
HIDDEN_STORE = "memstore_01zanzibar7741otter7741ab"
OPEN_STORE = "memstore_01commonstore00000000000a"
STORES = "memory/shared/stores"
DENIED = (f"{STORES}/{HIDDEN_STORE}", f"{STORES}/{HIDDEN_STORE}.json")
_TIME = "2025-01-01T00:00:00+00:00"
_HEADERS = ("content-type", "content-length", "etag", "accept-ranges", "content-range", "retry-after", "location")

_SERVERS: dict[Path, Server] = {}
_TOKENS: dict[tuple[Path, str], str] = {}
Probe = Callable[[Any], str]


def plant(tree: Path, *, with_hidden: bool) -> None:
    """Write a memory store of all agents, and one that they may not see."""
    for store, name in ((OPEN_STORE, "Common"), *(((HIDDEN_STORE, "Zanzibar"),) if with_hidden else ())):
        folder = tree / STORES / store
        folder.mkdir(parents=True)
        (folder / "tea.md").write_text(f"{name} tea.\n")
        folder.with_suffix(".json").write_bytes(StoreRecord(store, name, _TIME, _TIME).to_bytes())


def probes(hidden: Mapping[str, str], questions: Sequence[str], word: str) -> Mapping[str, Probe]:
    """Return the requests by name; the words `write`, `remove` and `move` name requests that may change files."""
    made = dict[str, Probe]()
    for path, text in hidden.items():
        made |= dict(_methods(path))
        made |= dict(_files(path, text))
        made |= dict(_afs(path, word))
    for question in questions:
        made[f"http search {question}"] = _method("search", question=question, limit=50)
        made[f"http context {question}"] = _method("context", request={"query": question, "budget": 600})
    for question in (word, "signing keys", "otter-7741"):
        made[f"http rpc search {question}"] = _rpc("search", path="/", query=question, options={"limit": 50})
        made[f"http rpc ranked {question}"] = _rpc("search", path="/memory", query=question, options={"mode": "ranked"})
    for name in ("status", "audit", "tokens", "history", "sessions", "session_names", "reviews", "snapshots", "calls"):
        made[f"http method {name}"] = _method(name)
    for pattern in (word, "otter-[0-9]+"):
        made[f"http grep {pattern}"] = _method("grep", pattern=pattern)
    made["http glob"] = _method("glob", pattern="**/*zanzi*")
    made["http records of a session"] = _method("session_records", session=word)
    made |= dict(_stores())
    return made


def _methods(path: str) -> Iterator[tuple[str, Probe]]:
    for name in ("stat", "read", "read_labelled", "read_extracted", "list", "metadata", "log", "blame"):
        yield f"http {name} {path}", _method(name, path=path)
    for name in ("stat", "read", "list"):
        yield f"http {name} past {path}", _method(name, path=f".snapshots/now/{path}")
    yield f"http nearest to {path}", _method("nearest", path=f"{path[:-1]}x")
    yield f"http show {path}", _method("show", path=path, at="latest")
    yield f"http diff {path}", _method("diff", path=path, old="first", new="latest")
    yield f"http list above {path}", _method("list", path=path.rpartition("/")[0])
    yield f"http undo {path}", _method("undo", path=path, dry_run=True)


def _files(path: str, text: str) -> Iterator[tuple[str, Probe]]:
    address, wrong = f"/files/{quote(path)}", {"If-Match": f'"{"0" * 64}"'}
    revision = hashlib.sha256(text.encode()).hexdigest()
    yield f"http get {path}", _send("GET", address)
    yield f"http head {path}", _send("HEAD", address)
    yield f"http get above {path}", _send("GET", address.rpartition("/")[0])
    yield f"http range {path}", _send("GET", address, headers={"Range": "bytes=0-3"})
    yield f"http known {path}", _send("GET", address, headers={"If-None-Match": f'"{revision}"'})
    yield f"http expected {path}", _send("GET", address, headers={"If-Match": f'"{revision}"'})
    yield f"http write expected {path}", _send("PUT", address, b"x", wrong)
    yield f"http remove expected {path}", _send("DELETE", address, None, wrong)
    yield f"http write new {path}", _create(address)


def _create(address: str) -> Probe:
    """Return a request that makes a file unless it is there; that of a group that may make it changes nothing."""

    def act(caller: Any) -> str:
        headers = {"If-None-Match": "*"} if caller.proof else {"If-Match": '"0"'}
        return _shown(_sent(caller, "PUT", address, b"x", headers))

    return act


def _afs(path: str, word: str) -> Iterator[tuple[str, Probe]]:
    parent = path.rpartition("/")[0]
    for method in ("read", "stat", "explain", "list"):
        yield f"http rpc {method} {path}", _rpc(method, path=f"/{path}")
    yield f"http rpc list above {path}", _rpc("list", path=f"/{parent}", options={"maxDepth": 3})
    yield f"http rpc search above {path}", _rpc("search", path=f"/{parent}", query=word)
    yield f"http rpc checksum {path}", _rpc("exec", path=f"/{parent}/.actions/checksum", args={"path": path})
    yield f"http rpc move {path}", _rpc("rename", path=f"/{path}", newPath=f"/{path}", options={"overwrite": False})


def _stores() -> Iterator[tuple[str, Probe]]:
    yield "http stores", _send("GET", "/v1/memory_stores?limit=50&include_archived=true")
    for store in (HIDDEN_STORE, OPEN_STORE):
        address = f"/v1/memory_stores/{store}"
        yield f"http store {store}", _send("GET", address)
        yield f"http memories {store}", _send("GET", f"{address}/memories?view=basic")
        yield f"http memory {store}", _send("GET", f"{address}/memories/mem_01zanzibar")
        yield f"http write memory {store}", _send("POST", f"{address}/memories", b'{"path": "/tea.md", "content": "x"}')
    yield "http memory versions", _send("GET", f"/v1/memory_stores/{HIDDEN_STORE}/memory_versions")


def _method(name: str, /, **arguments: object) -> Probe:
    return _send("POST", f"/api/{name}", json.dumps(arguments).encode())


def _rpc(method: str, /, **params: object) -> Probe:
    return _send("POST", "/rpc", json.dumps({"method": method, "params": params}).encode())


def _send(method: str, address: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Probe:
    return lambda caller: _shown(_sent(caller, method, address, body, headers))


def _sent(
    caller: Any, method: str, address: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    live: Live = caller.live
    server = _SERVERS.get(live.store) or _SERVERS.setdefault(live.store, Server(live))
    principal = caller.proof.get("principal") or ("" if caller.proof else SEERS)
    token = caller.proof.get("token") or _TOKENS.get((live.store, principal))
    if token is None:
        token = _TOKENS[live.store, principal] = issue_token(live, principal)
    return server.send(method, address, token, body, headers)


def _shown(answer: Answer) -> str:
    body, names = answer.body.decode("utf-8", "replace"), _HEADERS
    if body and answer.headers.get("content-type", "").startswith("application/json"):
        body = json.dumps(json.loads(body))
        names = tuple(name for name in names if name != "content-length")  # sequence numbers have one digit, or two
    return "\n".join([str(answer.status), *(f"{n}: {answer.headers[n]}" for n in names if n in answer.headers), body])


def close(live: Live) -> None:
    """End the server of a store, if it has one."""
    if (server := _SERVERS.pop(live.store, None)) is not None:
        assert "Traceback" not in server.close()
