"""Cost of a tool call, and the effect of many servers: `python -m benchmarks.tools [--rounds 60]`.

Interleaved: a program by itself (JSON on its stdin), the same program as a tool through `run` on a mount, and through
`ctx_exec` of a client over stdio; a tool of an MCP server through a client of the SDK, and mounted, over the daemon's
socket. Then twenty servers of fifty tools each, and one that never responds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client as McpClient
from mcp.client.stdio import StdioServerParameters

from benchmarks.harness import Bench, bench, report
from ctxfs.context.build.token_bound import upper_bound
from ctxfs.rpc.client import Client

_SMALL = str(Path(__file__).parent.parent / "tests" / "mcp_client" / "small_server.py")
_TOML = """description = "Say what it was asked"
command = ["cat"]
read_only = true
open_world = false
[input.properties.word]
type = "string"
"""
_SERVERS, _TOOLS = 20, 50
_DESCRIPTION = (
    "Create a new {thing} in a project of your organisation. Use this whenever the user wants a {thing} to be made. "
    "It answers with the new {thing}, its number and its address, which you should show to the user."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    with bench() as setup:
        setup.ctxfs("init")
        config = setup.store / "ctxfs.toml"
        config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
        folder = setup.store / "tools" / "cat"
        folder.mkdir(parents=True)
        (folder / "tool.toml").write_text(_TOML)
        setup.ctxfs("mount", str(setup.mountpoint))
        setup.ctxfs("tools", "approve", "cat", "--yes")
        setup.ctxfs("tools", "add", "small", "--yes", "--", *server_command())
        setup.wait(60, lambda index: index["state"] == "idle")
        report(anyio.run(measure_calls, setup, arguments.rounds, backend="trio"))
        setup.ctxfs("unmount", "--all")
        config.write_text(config.read_text().replace("# walls = true", "walls = false"))
        setup.ctxfs("mount", str(setup.mountpoint))
        setup.wait(60, lambda index: index["state"] == "idle")
        rows = anyio.run(measure_calls, setup, arguments.rounds, backend="trio")
        report({f"{name}, not shut in": value for name, value in rows.items()})
        report(measure_servers(setup))


def server_command(**settings: Any) -> list[str]:
    return [sys.executable, "-IS", _SMALL, json.dumps(settings)]


async def measure_calls(setup: Bench, rounds: int) -> dict[str, object]:
    times: dict[str, list[float]] = {"program": [], "run": [], "flags": [], "exec": [], "sdk": [], "mounted": []}
    arguments, socket = {"word": "x" * 40}, Client(setup.store / "run")
    payload = json.dumps(arguments).encode()

    def program(command: list[str]) -> None:
        subprocess.run(command, input=payload, capture_output=True, check=True)

    command = [sys.executable, "-m", "ctxfs", "--store", str(setup.store), "mcp"]
    small = server_command()
    async with (
        McpClient(StdioServerParameters(command=command[0], args=command[1:])) as tree,
        McpClient(StdioServerParameters(command=small[0], args=small[1:])) as direct,
    ):
        for round_number in range(rounds + 10):
            if round_number == 10:  # everything is warm
                for samples in times.values():
                    samples.clear()
            for name, call in (
                ("program", lambda: program(["cat"])),
                ("run", lambda: program([str(setup.mountpoint / "tools" / "cat" / "run")])),
                (
                    "flags",
                    lambda: program([str(setup.mountpoint / "tools" / "cat" / "run"), "--word", arguments["word"]]),
                ),
                ("mounted", lambda: socket.call("call_tool", name="small/echo", arguments=arguments)),
            ):
                start_time = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start_time)
            for name, client, tool, tool_arguments in (
                ("exec", tree, "ctx_exec", {"tool": "cat", "arguments": arguments}),
                ("sdk", direct, "echo", arguments),
            ):
                start_time = time.perf_counter()
                result = await client.call_tool(tool, tool_arguments)
                times[name].append(time.perf_counter() - start_time)
                assert not result.is_error
    socket.close()
    median = {name: statistics.median(samples) * 1000 for name, samples in times.items()}
    return {
        "through run": f"{median['run'] - median['program']:.1f} ms more than the program ({median['program']:.1f} ms)",
        "through run, by flags": f"{median['flags'] - median['program']:.1f} ms more",
        "through ctx_exec": f"{median['exec'] - median['program']:.1f} ms more",
        "tool of a server": f"{median['mounted'] - median['sdk']:.2f} ms more than the SDK's client ({median['sdk']:.2f} ms)",
    }


def measure_servers(setup: Bench) -> dict[str, object]:
    """Measure twenty servers beside one that never responds, all started at once."""
    tools = [
        {
            "name": f"create_thing_{n:02d}",
            "description": _DESCRIPTION.format(thing=f"thing {n}"),
            "inputSchema": {"type": "object"},
        }
        for n in range(_TOOLS - 15)  # the server has fifteen of its own
    ]
    setup.ctxfs("unmount", "--all")
    config = setup.store / "ctxfs.toml"
    entries = [(f"server-{n:02d}", server_command(tools=tools)) for n in range(_SERVERS)] + [
        ("hangs", server_command(mood="silent"))
    ]
    config.write_text(
        config.read_text()
        + "".join(f'\n[[server]]\nname = "{name}"\ncommand = {json.dumps(command)}\n' for name, command in entries)
    )
    start_time = time.perf_counter()
    setup.ctxfs("mount", str(setup.mountpoint))
    mount_seconds = time.perf_counter() - start_time
    first_seconds = ready_seconds = 0.0
    while not ready_seconds:
        states = [(setup.mountpoint / "tools" / name / "status").read_text().strip() for name, _ in entries[:-1]]
        first_seconds = first_seconds or (time.perf_counter() - start_time if "ready" in states else 0.0)
        ready_seconds = time.perf_counter() - start_time if set(states) == {"ready"} else 0.0
    listed = []
    for _ in range(30):
        list_start = time.perf_counter()
        names = os.listdir(setup.mountpoint / "tools")
        for name in names:
            os.stat(setup.mountpoint / "tools" / name)
        listed.append((time.perf_counter() - list_start) * 1000)
    command = []
    for _ in range(10):
        list_start = time.perf_counter()
        subprocess.run(["ls", "-l", setup.mountpoint / "tools"], capture_output=True, check=True)
        command.append((time.perf_counter() - list_start) * 1000)
    index = (setup.mountpoint / "tools" / "server-00" / "index.md").read_text()
    tokens = upper_bound(index)
    return {
        "ctxfs mount with 21 servers": f"{mount_seconds:.2f} s",
        "first server ready, all twenty": f"{first_seconds:.2f}, {ready_seconds:.2f} s after the command began",
        "ls tools/ (names and attributes)": f"{statistics.median(listed):.1f} ms, most {max(listed):.1f}",
        "ls -l tools/, the command": f"{statistics.median(command):.1f} ms",
        "index.md of a server of fifty": f"at most {tokens / _TOOLS:.1f} tokens a tool, by the bound that holds for every tokenizer",
        "the one that hangs": (setup.mountpoint / "tools" / "hangs" / "status").read_text().strip(),
    }


if __name__ == "__main__":
    main()
