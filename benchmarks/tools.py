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

_SMALL = str(Path(__file__).parent.parent / "tests" / "servers" / "small.py")
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
    with bench() as made:
        made.ctxfs("init")
        config = made.store / "ctxfs.toml"
        config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
        folder = made.store / "tools" / "cat"
        folder.mkdir(parents=True)
        (folder / "tool.toml").write_text(_TOML)
        made.ctxfs("mount", str(made.at))
        made.ctxfs("tools", "approve", "cat", "--yes")
        made.ctxfs("tools", "add", "small", "--yes", "--", *server())
        made.wait(60, lambda index: index["state"] == "idle")
        report(anyio.run(calls, made, arguments.rounds, backend="trio"))
        made.ctxfs("unmount", "--all")
        config.write_text(config.read_text().replace("# walls = true", "walls = false"))
        made.ctxfs("mount", str(made.at))
        made.wait(60, lambda index: index["state"] == "idle")
        found = anyio.run(calls, made, arguments.rounds, backend="trio")
        report({f"{name}, not shut in": value for name, value in found.items()})
        report(many(made))


def server(**said: Any) -> list[str]:
    return [sys.executable, "-IS", _SMALL, json.dumps(said)]


async def calls(made: Bench, rounds: int) -> dict[str, object]:
    times: dict[str, list[float]] = {"program": [], "run": [], "flags": [], "exec": [], "sdk": [], "mounted": []}
    words, socket = {"word": "x" * 40}, Client(made.store / "run")
    said = json.dumps(words).encode()

    def program(command: list[str]) -> None:
        subprocess.run(command, input=said, capture_output=True, check=True)

    ours = [sys.executable, "-m", "ctxfs", "--store", str(made.store), "mcp"]
    small = server()
    async with (
        McpClient(StdioServerParameters(command=ours[0], args=ours[1:])) as tree,
        McpClient(StdioServerParameters(command=small[0], args=small[1:])) as direct,
    ):
        for turn in range(rounds + 10):
            if turn == 10:  # everything is warm
                for each in times.values():
                    each.clear()
            for name, call in (
                ("program", lambda: program(["cat"])),
                ("run", lambda: program([str(made.at / "tools" / "cat" / "run")])),
                ("flags", lambda: program([str(made.at / "tools" / "cat" / "run"), "--word", words["word"]])),
                ("mounted", lambda: socket.call("call_tool", name="small/echo", arguments=words)),
            ):
                begun = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begun)
            for name, client, tool, given in (
                ("exec", tree, "ctx_exec", {"tool": "cat", "arguments": words}),
                ("sdk", direct, "echo", words),
            ):
                begun = time.perf_counter()
                done = await client.call_tool(tool, given)
                times[name].append(time.perf_counter() - begun)
                assert not done.is_error
    socket.close()
    median = {name: statistics.median(each) * 1000 for name, each in times.items()}
    return {
        "through run": f"{median['run'] - median['program']:.1f} ms more than the program ({median['program']:.1f} ms)",
        "through run, by flags": f"{median['flags'] - median['program']:.1f} ms more",
        "through ctx_exec": f"{median['exec'] - median['program']:.1f} ms more",
        "tool of a server": f"{median['mounted'] - median['sdk']:.2f} ms more than the SDK's client ({median['sdk']:.2f} ms)",
    }


def many(made: Bench) -> dict[str, object]:
    """Measure twenty servers beside one that never responds, all started at once."""
    tools = [
        {
            "name": f"create_thing_{n:02d}",
            "description": _DESCRIPTION.format(thing=f"thing {n}"),
            "inputSchema": {"type": "object"},
        }
        for n in range(_TOOLS - 15)  # the server has fifteen of its own
    ]
    made.ctxfs("unmount", "--all")
    config = made.store / "ctxfs.toml"
    entries = [(f"server-{n:02d}", server(tools=tools)) for n in range(_SERVERS)] + [("hangs", server(mood="silent"))]
    config.write_text(
        config.read_text()
        + "".join(f'\n[[server]]\nname = "{name}"\ncommand = {json.dumps(command)}\n' for name, command in entries)
    )
    begun = time.perf_counter()
    made.ctxfs("mount", str(made.at))
    mounted = time.perf_counter() - begun
    first = ready = 0.0
    while not ready:
        states = [(made.at / "tools" / name / "status").read_text().strip() for name, _ in entries[:-1]]
        first = first or (time.perf_counter() - begun if "ready" in states else 0.0)
        ready = time.perf_counter() - begun if set(states) == {"ready"} else 0.0
    listed = []
    for _ in range(30):
        began = time.perf_counter()
        names = os.listdir(made.at / "tools")
        for name in names:
            os.stat(made.at / "tools" / name)
        listed.append((time.perf_counter() - began) * 1000)
    command = []
    for _ in range(10):
        began = time.perf_counter()
        subprocess.run(["ls", "-l", made.at / "tools"], capture_output=True, check=True)
        command.append((time.perf_counter() - began) * 1000)
    index = (made.at / "tools" / "server-00" / "index.md").read_text()
    tokens = upper_bound(index)
    return {
        "ctxfs mount with 21 servers": f"{mounted:.2f} s",
        "first server ready, all twenty": f"{first:.2f}, {ready:.2f} s after the command began",
        "ls tools/ (names and attributes)": f"{statistics.median(listed):.1f} ms, most {max(listed):.1f}",
        "ls -l tools/, the command": f"{statistics.median(command):.1f} ms",
        "index.md of a server of fifty": f"at most {tokens / _TOOLS:.1f} tokens a tool, by the bound that holds for every tokenizer",
        "the one that hangs": (made.at / "tools" / "hangs" / "status").read_text().strip(),
    }


if __name__ == "__main__":
    main()
