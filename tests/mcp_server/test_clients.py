"""Test real clients of both protocol eras over real transports: isolation between them, and a server that survives."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import trio
from mcp.client import Client as McpClient
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import TextContent, TextResourceContents

from ctxfs.mcp_server.http import parse_address
from ctxfs.mcp_server.resources import ResourceNotifications
from ctxfs.mcp_server.server import SingleSession, TreeServer, opened
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client
from ctxfs.store.layout import Layout
from tests.live import Live, eventually

ERAS = ("legacy", "2026-07-28")
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
PLAIN = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def words(result: Any) -> str:
    return "".join(part.text for part in result.content if isinstance(part, TextContent))


def request(method: str, params: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def stdio(live: Live, *options: str) -> StdioServerParameters:
    command = live.command("mcp", *options)
    return StdioServerParameters(command=command[0], args=command[1:], encoding_error_handler="replace")


@pytest.mark.parametrize("era", ERAS)
def test_a_client_of_either_era_gets_tools_resources_and_prompts_over_stdio(era: Any, served: Live) -> None:
    async def use() -> None:
        async with McpClient(stdio(served, "--as", "agent:alice"), mode=era) as client:
            assert len((await client.list_tools()).tools) == 14
            assert "ninety days" in words(
                await client.call_tool("ctx_read", {"path": "knowledge/handbook/rotation.md"})
            )
            listed = (await client.list_resources()).resources
            assert {"ctx:///AGENTS.md", "ctx:///knowledge/handbook"} <= {str(resource.uri) for resource in listed}
            assert "ctx:///human" not in {str(resource.uri) for resource in listed}
            (template,) = (await client.list_resource_templates()).resource_templates
            assert template.uri_template == "ctx:///{+path}"
            (content,) = (await client.read_resource("ctx:///knowledge/handbook/rotation.md")).contents
            assert isinstance(content, TextResourceContents)
            assert (content.mime_type, "ninety days" in content.text) == ("text/markdown", True)
            (folder,) = (await client.read_resource("ctx:///knowledge/handbook")).contents
            assert isinstance(folder, TextResourceContents)
            assert "ctx:///knowledge/handbook/latin-%E9.txt" in folder.text.splitlines()
            for bad in ("ctx:///nope.md", "ctx:///knowledge/..%2F..%2Fx", "ctx:///memory/bob", "file:///etc/passwd"):
                with pytest.raises(Exception, match=r"No such|slash|begins with"):
                    await client.read_resource(bad)
            prompts = (await client.list_prompts()).prompts
            assert [prompt.name for prompt in prompts] == ["build_context", "remember", "review_changes"]
            built = await client.get_prompt("build_context", {"task": "how often do we rotate keys", "budget": "300"})
            assert "ninety days" in built.messages[0].content.text
            with pytest.raises(Exception, match="unknown: colour"):
                await client.get_prompt("remember", {"what": "x", "colour": "red"})

    anyio.run(use, backend="trio")


@pytest.mark.fuse
@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
@pytest.mark.parametrize("era", ERAS)
def test_write_on_the_mount_reaches_subscribers_that_may_see_it(era: Any, served: Live) -> None:
    seen = served.at / "memory" / "shared" / f"seen-{era}.md"
    hidden = served.at / "memory" / "bob" / f"hidden-{era}.md"
    hidden.parent.mkdir(exist_ok=True)
    uris = [f"ctx:///memory/{path.parent.name}/{path.name}" for path in (hidden, seen)]
    for path in (hidden, seen):
        path.write_text("before\n")

    async def follow() -> list[str]:
        heard: list[str] = []
        news = trio.Event()

        async def take(message: Any) -> None:
            if "resources/updated" in str(getattr(message, "method", "")):
                heard.append(str(message.params.uri))
                news.set()

        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                McpClient(stdio(served, "--as", "agent:alice"), mode=era, message_handler=take)
            )
            if era == "legacy":
                # A hidden file and a missing one are refused alike.
                for uri in (uris[0], f"{uris[0]}-that-is-not-there"):
                    with pytest.raises(MCPError, match="No such file or directory"):
                        await client.subscribe_resource(uri)
                await client.subscribe_resource(uris[1])
                for path in (hidden, seen):
                    await trio.to_thread.run_sync(path.write_text, "after\n")
                with trio.fail_after(20):
                    await news.wait()
            else:
                stream = await stack.enter_async_context(client.listen(resource_subscriptions=uris))
                for path in (hidden, seen):
                    await trio.to_thread.run_sync(path.write_text, "after\n")
                with trio.fail_after(20):
                    async for event in stream:
                        heard.append(str(event.uri))
                        break
        return sorted(set(heard))

    assert anyio.run(follow, backend="trio") == [uris[1]]


def test_paths_are_completed(served: Live) -> None:
    async def complete(begun: str) -> list[str]:
        from mcp.types import ResourceTemplateReference

        async with opened(Layout(served.store), principal="agent:alice") as server, McpClient(server) as client:
            ref = ResourceTemplateReference(type="ref/resource", uri="ctx:///{+path}")
            return list((await client.complete(ref, {"name": "path", "value": begun})).completion.values)

    assert anyio.run(complete, "kno", backend="trio") == ["knowledge/"]
    assert "knowledge/handbook/rotation.md" in anyio.run(complete, "knowledge/handbook/r", backend="trio")
    assert anyio.run(complete, "memory/b", backend="trio") == []
    assert anyio.run(complete, "../", backend="trio") == []


# HTTP


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Http:
    """A running `ctxfs mcp --http`, and its clients."""

    def __init__(self, live: Live, address: str, url: str, *options: str) -> None:
        self.url = url
        self.live = live
        self._process = subprocess.Popen(
            live.command("mcp", "--http", address, *options), stderr=subprocess.PIPE, text=True
        )

    def token(self, principal: str, *allow: str) -> str:
        options = [option for pattern in allow for option in ("--allow", pattern)]
        return self.live.run("token", "issue", principal, *options).strip()

    @contextlib.asynccontextmanager
    async def client(
        self, token: str = "", mode: Any = "auto", take: Any = None, **transport: Any
    ) -> AsyncIterator[McpClient]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30, **transport) as http,
            McpClient(streamable_http_client(self.url, http_client=http), mode=mode, message_handler=take) as client,
        ):
            yield client

    def close(self) -> str:
        self._process.send_signal(signal.SIGTERM)
        _, stderr = self._process.communicate(timeout=20)
        assert self._process.returncode == 0, stderr
        return stderr


@pytest.fixture(scope="module")
def http(served: Live) -> Iterator[Http]:
    port = free_port()
    made = Http(served, f"127.0.0.1:{port}", f"http://127.0.0.1:{port}/mcp")

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    eventually("it listens", answers)
    yield made
    stderr = made.close()
    assert "Traceback" not in stderr, stderr


@pytest.mark.parametrize("era", ERAS)
def test_token_identifies_a_tcp_client_and_a_client_without_one_is_refused(era: Any, http: Http) -> None:
    token = http.token("agent:alice")

    async def whoami(proof: str) -> str:
        async with http.client(proof, era) as client:
            return words(await client.call_tool("ctx_read", {"path": ".ctxfs/whoami"}))

    assert anyio.run(whoami, token, backend="asyncio").startswith("agent:alice\n")
    for headers in (
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {token}x"},
        {"Authorization": "Basic x"},
    ):
        refused = httpx2.post(http.url, json=request("initialize", HELLO), headers={**PLAIN, **headers})
        assert refused.status_code == 401
        assert "www-authenticate" in refused.headers
    evil = httpx2.post(
        http.url,
        json=request("initialize", HELLO),
        headers={**PLAIN, "Authorization": f"Bearer {token}", "Host": "evil.example"},
    )
    assert evil.status_code in (403, 421)
    http.live.run("token", "revoke", token.split("_")[1])
    proof = {**PLAIN, "Authorization": f"Bearer {token}"}

    def answer() -> int:
        return int(httpx2.post(http.url, json=request("initialize", HELLO), headers=proof).status_code)

    eventually("the revoked token is refused", lambda: answer() == 401, 5)


@pytest.mark.parametrize("era", ERAS)
def test_hundred_simultaneous_sessions_receive_their_own_responses(era: Any, http: Http) -> None:
    tokens = {name: http.token(f"agent:{name}") for name in ("alice", "bob", "carol", "dave")}
    for name in tokens:
        (http.live.store / "tree" / "memory" / name).mkdir(exist_ok=True)
        (http.live.store / "tree" / "memory" / name / "mine.md").write_text(f"only {name}'s\n")
    wrong: list[str] = []

    async def session(name: str) -> None:
        async with http.client(tokens[name], era) as client:
            for other in (name, "bob" if name == "alice" else "alice"):
                done = await client.call_tool("ctx_read", {"path": f"memory/{other}/mine.md"})
                if done.is_error != (other != name) or (other == name and f"only {name}'s" not in words(done)):
                    wrong.append(f"{name} reads {other}: {words(done)}")
            who = words(await client.call_tool("ctx_read", {"path": ".ctxfs/whoami"}))
            if not who.startswith(f"agent:{name}\n"):
                wrong.append(f"{name} is {who}")

    async def all_at_once() -> None:
        with anyio.fail_after(100):
            async with anyio.create_task_group() as nursery:
                for number in range(100):
                    nursery.start_soon(session, list(tokens)[number % len(tokens)])

    anyio.run(all_at_once, backend="asyncio")
    assert wrong == []


def test_session_belongs_to_the_token_that_created_it(http: Http) -> None:
    alice, bob = http.token("agent:alice"), http.token("agent:bob")
    begun = httpx2.post(
        http.url, json=request("initialize", HELLO), headers={**PLAIN, "Authorization": f"Bearer {alice}"}
    )
    session = begun.headers["mcp-session-id"]
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    taken = httpx2.post(
        http.url, json=listing, headers={**PLAIN, "Authorization": f"Bearer {bob}", "Mcp-Session-Id": session}
    )
    assert taken.status_code == 404


@pytest.mark.fuse
@pytest.mark.filterwarnings("ignore:resources/subscribe is removed", "ignore:resources/unsubscribe is removed")
def test_session_without_subscriptions_silences_no_other_of_its_token(http: Http) -> None:
    token, path = http.token("agent:alice"), http.live.at / "memory" / "shared" / "told.md"
    path.write_text("before\n")
    uri = "ctx:///memory/shared/told.md"

    async def follow() -> tuple[list[str], list[str]]:
        heard: tuple[list[str], list[str]] = ([], [])
        events = anyio.Event(), anyio.Event()

        def listener(number: int) -> Any:
            async def take(message: Any) -> None:
                if "resources/updated" in str(getattr(message, "method", "")):
                    heard[number].append(str(message.params.uri))
                    events[number].set()

            return take

        async with (
            http.client(token, "legacy", listener(0)) as leaving,
            http.client(token, "legacy", listener(1)) as staying,
        ):
            for client in (leaving, staying, staying):
                await client.subscribe_resource(uri)
            await leaving.unsubscribe_resource(uri)
            await anyio.to_thread.run_sync(path.write_text, "after\n")
            with anyio.fail_after(20):
                await events[1].wait()
            await staying.call_tool("ctx_list", {})  # earlier notifications have arrived
        return heard

    silent, told = anyio.run(follow, backend="asyncio")
    assert (silent, told) == ([], [uri])


@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
def test_ended_sessions_free_their_subscriptions(served: Live) -> None:
    async def use() -> int:
        async with trio.open_nursery() as nursery:
            door = TreeSession(Layout(served.store), nursery)
            await door.join()
            news = ResourceNotifications(door, nursery)
            for _ in range(3):
                async with McpClient(TreeServer(SingleSession(door, news)).build_server(), mode="legacy") as client:
                    for number in range(1024):
                        await client.subscribe_resource(f"ctx:///memory/shared/{number}.md")
                    with pytest.raises(Exception, match="1024 subscriptions at most"):
                        await client.subscribe_resource("ctx:///memory/shared/one-more.md")
            await door.close()
            return len(news.subscribed_uris)

    assert anyio.run(use, backend="trio") == 0


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 5000, "1e3", "²"])
def test_forged_cursor_is_refused(cursor: str, served: Live) -> None:
    async def use() -> None:
        async with opened(Layout(served.store)) as server, McpClient(server) as client:
            with pytest.raises(Exception, match="the cursor is not one that was given"):
                await client.list_resources(cursor=cursor)

    anyio.run(use, backend="trio")


def test_two_hundred_requests_four_at_a_time_all_succeed(http: Http) -> None:
    token = http.token("agent:alice")
    failed: list[str] = []

    async def work(client: McpClient, numbers: range) -> None:
        for number in numbers:
            tool, arguments = [
                ("ctx_read", {"path": "knowledge/handbook/rotation.md"}),
                ("ctx_search", {"query": "rotate keys"}),
                ("ctx_list", {"path": "knowledge", "depth": 3}),
                ("ctx_write", {"path": f"pad/many/{number}.md", "content": f"{number}\n"}),
            ][number % 4]
            done = await client.call_tool(tool, arguments)
            failed.extend([words(done)] if done.is_error else [])

    async def run() -> None:
        with anyio.fail_after(60):
            async with http.client(token) as client, anyio.create_task_group() as nursery:
                for start in range(4):
                    nursery.start_soon(work, client, range(start, 200, 4))

    anyio.run(run, backend="asyncio")
    assert failed == []


def test_unix_socket_admits_its_owner_who_names_the_principal(served: Live, tmp_path: Path) -> None:
    socket_path = tmp_path / "mcp.sock"
    made = Http(served, f"unix:{socket_path}", "http://localhost/mcp", "--as", "agent:alice")
    try:
        eventually("it listens", socket_path.is_socket)
        assert socket_path.stat().st_mode & 0o077 == 0

        async def whoami() -> str:
            async with made.client(transport=httpx2.AsyncHTTPTransport(uds=str(socket_path))) as client:
                return words(await client.call_tool("ctx_read", {"path": ".ctxfs/whoami"}))

        assert anyio.run(whoami, backend="asyncio").startswith("agent:alice\n")
    finally:
        made.close()
    assert not socket_path.exists()


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:99999", "unix:/no/such/dir/s"])
def test_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_address(address)
    assert refused.value.code == 2


def test_tcp_client_gets_its_principal_from_a_token_only(served: Live) -> None:
    done = served.try_run("mcp", "--http", "127.0.0.1:9", "--as", "agent:alice")
    assert done.returncode == 2
    assert "ctxfs token issue agent:alice" in done.stderr


def test_obstacle_at_the_socket_path_is_reported_and_left_alone(served: Live, http: Http, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine\n")
    done = served.try_run("mcp", "--http", f"unix:{tmp_path}/notes.txt")
    assert (done.returncode, "no socket" in done.stderr) == (2, True)
    assert (tmp_path / "notes.txt").read_text() == "mine\n"
    taken = served.try_run("mcp", "--http", http.url.removeprefix("http://").removesuffix("/mcp"))
    assert taken.returncode == 1
    assert "in use" in taken.stderr
    assert "Traceback" not in taken.stderr


# lifecycle


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as made:
        yield made


def test_client_that_dies_during_a_write_leaves_the_file_unchanged(served: Live, stack: contextlib.ExitStack) -> None:
    file = served.at / "memory" / "shared" / "dying.md"
    file.write_text("whole\n")
    process = stack.enter_context(
        subprocess.Popen(served.command("mcp"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    assert process.stdin is not None and process.stdout is not None
    write = {"name": "ctx_write", "arguments": {"path": "memory/shared/dying.md", "content": "x" * 1_000_000}}
    for number, (method, params) in enumerate([("initialize", HELLO), ("tools/call", write)], 1):
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"
        process.stdin.write(line if number == 1 else line[: len(line) // 2])
        process.stdin.flush()
        if number == 1:
            assert process.stdout.readline()
    process.stdin.close()
    assert process.wait(20) == 0
    assert file.read_text() == "whole\n"


def test_garbage_between_requests_is_answered_and_the_server_continues(
    served: Live, stack: contextlib.ExitStack
) -> None:
    call = {"name": "ctx_list", "arguments": {}}
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}).encode(),
        b'{"jsonrpc": "2.0", "id": 2, "method": ',
        b"\xff\xfe not even text",
        b"[]",
        b'{"jsonrpc": "2.0", "id": 3, "method": "no/such", "params": {}}',
        b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}',
        json.dumps({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": call}).encode(),
    ]
    process = stack.enter_context(
        subprocess.Popen(served.command("mcp"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"\n".join(lines) + b"\n")
    process.stdin.flush()
    answers: dict[object, Any] = {}
    while 9 not in answers:
        answer = json.loads(process.stdout.readline())
        answers[answer.get("id")] = answer
    process.stdin.close()
    assert process.wait(20) == 0
    assert "error" in answers[3]
    assert "memory/" in json.dumps(answers[9]["result"])


def test_a_daemon_that_is_replaced_is_found_again(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    (live.store / "tree" / "memory" / "shared").mkdir(exist_ok=True)
    (live.store / "tree" / "memory" / "shared" / "x.md").write_text("still here\n")

    async def use() -> list[str]:
        responses = []
        async with McpClient(stdio(live)) as client:

            async def read() -> None:
                done = await client.call_tool("ctx_read", {"path": "memory/shared/x.md"})
                responses.append(words(done).partition("\n")[0])

            await read()  # no daemon: the store is open in the server itself
            await trio.to_thread.run_sync(live.run, "mount", str(live.at))
            await read()
            os.kill(live.daemon_pid(), signal.SIGKILL)
            for _ in range(400):
                await read()
                if responses[-1] == "still here":
                    break
            await trio.to_thread.run_sync(live.run, "unmount", "--all")
            await read()
            await read()
        return responses

    try:
        responses = anyio.run(use, backend="trio")
    finally:
        live.close()
    assert responses[:2] == ["still here"] * 2
    assert responses[-1] == "still here"


def test_server_without_a_daemon_releases_the_store_after_reading_versions(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")

    async def use() -> list[str]:
        async with McpClient(stdio(live)) as one, McpClient(stdio(live)) as other:
            made = {"path": "memory/shared/x.md", "content": "still here\n"}
            assert not (await one.call_tool("ctx_write", made)).is_error
            responses = [words(await one.call_tool("ctx_history", {"mode": "log", "path": made["path"]}))]
            with trio.fail_after(20):  # the server holds the store for a moment only
                while (done := await other.call_tool("ctx_history", {"mode": "log", "path": made["path"]})).is_error:
                    assert "belongs to another" in words(done)
            responses.append(words(done))
            await trio.to_thread.run_sync(live.run, "mount", str(live.at))
            return responses

    try:
        first, second = anyio.run(use, backend="trio")
        assert (live.at / "memory" / "shared" / "x.md").read_text() == "still here\n"
    finally:
        live.close()
    assert first == second


def test_cancelled_call_ends_and_the_next_is_answered(served: Live) -> None:
    async def use() -> str:
        async with McpClient(stdio(served)) as client:
            with trio.move_on_after(0.01):
                await client.call_tool("ctx_context", {"task": "keys " * 50, "budget": 100_000})
            return words(await client.call_tool("ctx_read", {"path": ".ctxfs/whoami"}))

    assert "human:" in anyio.run(use, backend="trio")
    with contextlib.closing(Client(served.store / "run", timeout=20)) as client:
        assert client.call("ping")["pid"]
