"""Cost of MCP: `python -m benchmarks.mcp [--rounds 300]`.

A client of the SDK over stdio, and a daemon with a warm store. The empty tool belongs to a bare server of the same SDK;
calls of it alternate with ctx_read of a file of 4 kB. Calls of ctx_search alternate with the same question over the
daemon's socket. The start is the time from the start of the command to the response to `initialize`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client as McpClient
from mcp.client.stdio import StdioServerParameters

from benchmarks.corpus import make_corpus
from benchmarks.harness import Bench, bench, report
from ctxfs.rpc.client import Client

_EMPTY = """
import anyio
from mcp.server import MCPServer
server = MCPServer("empty")
@server.tool(structured_output=False)
def empty() -> str:
    return ""
anyio.run(server.run_stdio_async, backend="trio")
"""
_HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "b", "version": "1"}}
_QUESTION = "how is an import of a module found"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--files", type=int, default=2000)
    arguments = parser.parse_args()
    with bench() as setup:
        make_corpus(setup.corpus, arguments.files)
        (setup.corpus / "four.txt").write_text(
            "".join(f"{n:04d} a line of a file of four kilobytes.\n" for n in range(93))[:4096]
        )
        setup.ctxfs("init")
        config = setup.store / "ctxfs.toml"
        config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
        setup.ctxfs("add", str(setup.corpus), "--name", "corpus")
        setup.ctxfs("mount", str(setup.mountpoint))
        setup.wait(300, lambda index: index["state"] == "idle")
        report(anyio.run(measure_calls, setup, arguments.rounds, backend="trio"))
        starts = sorted(measure_start(setup) for _ in range(15))
        report({"start to first answer, median / most": f"{starts[7]:.2f} / {starts[-1]:.2f} s"})


def mcp_command(setup: Bench) -> list[str]:
    return [sys.executable, "-m", "ctxfs", "--store", str(setup.store), "mcp"]


async def measure_calls(setup: Bench, rounds: int) -> dict[str, object]:
    command, bare = mcp_command(setup), Path(setup.store.parent) / "empty.py"
    bare.write_text(_EMPTY)
    times: dict[str, list[float]] = {"empty": [], "read": [], "search": [], "socket": []}
    socket = Client(setup.store / "run")

    async def timed(name: str, client: McpClient, tool: str, arguments: dict[str, Any]) -> None:
        start_time = time.perf_counter()
        result = await client.call_tool(tool, arguments)
        times[name].append(time.perf_counter() - start_time)
        assert not result.is_error

    async with (
        McpClient(StdioServerParameters(command=command[0], args=command[1:])) as tree,
        McpClient(StdioServerParameters(command=sys.executable, args=[str(bare)])) as empty,
    ):
        for round_number in range(rounds + 20):
            if round_number == 20:  # both are warm
                for samples in times.values():
                    samples.clear()
            await timed("empty", empty, "empty", {})
            await timed("read", tree, "ctx_read", {"path": "knowledge/corpus/four.txt"})
            await timed("search", tree, "ctx_search", {"query": _QUESTION})
            start_time = time.perf_counter()
            socket.call("search", question=_QUESTION, limit=21)
            times["socket"].append(time.perf_counter() - start_time)
    socket.close()
    median = {name: statistics.median(samples) * 1000 for name, samples in times.items()}
    return {
        "ctx_read of 4 kB": f"{median['read'] / median['empty']:.2f} × an empty tool ({median['read']:.2f} / {median['empty']:.2f} ms)",
        "ctx_search adds": f"{median['search'] - median['socket']:.2f} ms ({median['search']:.2f} / {median['socket']:.2f} ms)",
    }


def measure_start(setup: Bench) -> float:
    """Return the seconds from the start of the command to its first response."""
    hello = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": _HELLO}).encode() + b"\n"
    start_time = time.perf_counter()
    with subprocess.Popen(mcp_command(setup), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(hello)
        process.stdin.flush()
        assert process.stdout.readline()
        seconds = time.perf_counter() - start_time
        process.stdin.close()
    return seconds


if __name__ == "__main__":
    main()
