"""Test that patterns of agents, servers and sources block no other client, for any input text."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.exec.linear_patterns import search_linear
from ctxfs.exec.schema import MAX_CPU_SECONDS, Schema, fault_of
from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.glob import glob_matcher
from ctxfs.index.search.grep import Line, Matcher
from ctxfs.index.search.grep_pool import GrepPool
from ctxfs.mcp_client.uri_paths import Template
from tests.live import Live, eventually

EVIL = r"(a+)+$"
HOSTILE = "a" * 5000 + "!"


def cpu_seconds(act: Callable[[], object]) -> float:
    """Return the CPU time of `act` in this thread, which excludes other processes of the machine."""
    begun = time.thread_time()
    act()
    return time.thread_time() - begun


def test_backtracking_grep_blocks_no_other_client(live: Live) -> None:
    folder = live.at / "pad" / "patterns"
    folder.mkdir()
    (folder / "evil.txt").write_text(HOSTILE + "\n")
    (folder / "good.md").write_text("aaaa\n")
    client = live.try_run("grep", "good words nowhere", "pad/patterns")
    assert client.returncode == 3
    slow = subprocess.Popen(
        live.command("grep", EVIL, "pad/patterns"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        asked = 0
        while slow.poll() is None and asked < 20:
            begun = time.monotonic()
            live.status()
            assert time.monotonic() - begun < 5, "the daemon answers while the search runs"
            asked += 1
        lines, stderr = slow.communicate(timeout=60)
    finally:
        slow.kill()
    assert lines == "pad/patterns/good.md:1:aaaa\n", "one hostile file costs that file"
    assert "pad/patterns/evil.txt: the pattern takes too long on it" in stderr


@pytest.fixture
def root(tmp_path: Path) -> IndexedRoot:
    (tmp_path / "evil.txt").write_text(HOSTILE + "\n")
    (tmp_path / "good.md").write_text("aaaa\n")
    return IndexedRoot("knowledge/c", str(tmp_path))


def test_search_that_is_cancelled_ends_its_process(root: IndexedRoot) -> None:
    async def main() -> None:
        pool = GrepPool()
        await pool.scan("bob", [(root, ("good.md",))], Matcher("aa"), "lines", 10)
        (process,) = pool._idle
        with trio.move_on_after(0.2) as scope:
            await pool.scan("bob", [(root, ("evil.txt",))] * 100, Matcher(EVIL), "lines", 10)
        assert scope.cancelled_caught
        assert not process.is_alive
        lines, faults = await pool.scan("bob", [(root, ("good.md",))], Matcher("aa"), "lines", 10)
        assert (lines, faults) == ([Line("knowledge/c/good.md", 1, "aaaa")], [])
        pool.close()

    trio.run(main)


def test_unexpected_exception_costs_one_file(root: IndexedRoot) -> None:
    async def main() -> None:
        pool = GrepPool()
        log = IndexedRoot("history", root.root, holds_records=True)  # whose files are two names deep, never one
        lines, faults = await pool.scan("bob", [(log, ("good.md",)), (root, ("good.md",))], Matcher("aa"), "lines", 10)
        assert lines == [Line("knowledge/c/good.md", 1, "aaaa")]
        assert [fault.partition(":")[0] for fault in faults] == ["history/good.md"]
        pool.close()

    trio.run(main)


def test_death_of_the_search_process_is_reported_as_such(root: IndexedRoot) -> None:
    async def main() -> None:
        pool = GrepPool()
        await pool.scan("bob", [(root, ("good.md",))], Matcher("aa"), "lines", 10)
        (process,) = pool._idle
        async with trio.open_nursery() as nursery:

            async def search() -> None:
                _, faults = await pool.scan("bob", [(root, ("evil.txt",))] * 100, Matcher(EVIL), "lines", 10)
                assert len(faults) == 1
                assert "ended before all files were read" in faults[0]

            nursery.start_soon(search)
            while pool._idle:
                await trio.lowlevel.checkpoint()
            process._process.kill()
        pool.close()

    trio.run(main)


def test_one_principal_does_not_take_every_search_process(root: IndexedRoot) -> None:
    async def main() -> None:
        pool = GrepPool()
        evil = [(root, ("evil.txt",))] * 100
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(pool.scan, "mallory", evil, Matcher(EVIL), "lines", 10)
            with trio.fail_after(20):
                lines, _ = await pool.scan("alice", [(root, ("good.md",))], Matcher("aa"), "lines", 10)
            assert [line.text for line in lines] == ["aaaa"]
            nursery.cancel_scope.cancel()
        pool.close()

    trio.run(main)


@pytest.mark.parametrize(
    "pattern",
    [
        "*a*a*a*a*a*a*a*a*a*a*b",
        "**/a*/**/a*/**/a*/**/a*/**/b",
        "[" * 900,
        "{a,b}" * 6 + "*",
        "?" * 900,
        "{" * 400 + "}" * 400,
    ],
)
def test_glob_takes_time_in_proportion_to_path_and_pattern(pattern: str) -> None:
    def match() -> None:
        try:
            matches = glob_matcher(pattern)
        except OSError:
            return  # refused
        for path in ("a" * 255, "/".join(["a" * 40] * 100), "a" * 4000):
            matches(path)

    assert cpu_seconds(match) < 1


@given(st.text("ab*?/", min_size=1, max_size=10), st.text("ab/", min_size=1, max_size=10))
def test_glob_agrees_with_trying_every_split(pattern: str, path: str) -> None:
    try:
        matches = glob_matcher(pattern)
    except OSError:
        return
    plain = pattern.strip("/")
    steps = (f"**/{plain}" if "/" not in plain else plain).split("/")
    if steps[-1] == "**":
        steps.append("*")
    assert matches(path) == _tried(steps, path.split("/"))


def _tried(steps: list[str], names: list[str]) -> bool:
    if not steps:
        return not names
    if steps[0] == "**":
        return any(_tried(steps[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and _named(steps[0], names[0]) and _tried(steps[1:], names[1:])


def _named(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_named(pattern[1:], name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and _named(pattern[1:], name[1:])


def references(depth: int) -> dict[str, Any]:
    """Return a schema whose check doubles with each of its definitions."""
    parts: dict[str, Any] = {"d0": {"type": "object"}}
    for number in range(1, depth):
        parts[f"d{number}"] = {"allOf": [{"$ref": f"#/$defs/d{number - 1}"}] * 2}
    return {"$defs": parts, "$ref": f"#/$defs/d{depth - 1}"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"x": {"pattern": EVIL}}}, {"x": HOSTILE}),
        ({"patternProperties": {EVIL: {}}, "additionalProperties": False}, {HOSTILE: 1}),
        ({"propertyNames": {"pattern": EVIL}}, {HOSTILE: 1}),
        ({"patternProperties": {EVIL: {}}, "unevaluatedProperties": False}, {HOSTILE: 1}),
        ({"properties": {"x": {"pattern": "(?=a)(a+)+$"}}}, {"x": HOSTILE}),
        ({"properties": {"x": {"uniqueItems": True}}}, {"x": [{"n": n} for n in range(20_000)]}),
        ({"$ref": "#"}, {}),
        (references(40), {}),
    ],
)
def test_schema_of_a_server_is_checked_in_bounded_time(schema: dict[str, Any], value: Any) -> None:
    faults: list[str] = []
    assert cpu_seconds(lambda: faults.extend((Schema(schema).fault_in(value), fault_of(schema)))) < MAX_CPU_SECONDS + 2
    assert faults[0], "invalid and uncheckable values are reported"


def test_patterns_of_schemas_are_matched_correctly() -> None:
    assert Schema({"pattern": "^[a-z]+$"}).fault_in("abc") == ""
    assert "does not match" in Schema({"pattern": "^[a-z]+$"}).fault_in("abc1")
    open_to_numbers = {"patternProperties": {"^n_": {"type": "number"}}, "additionalProperties": False}
    assert Schema(open_to_numbers).fault_in({"n_x": 1}) == ""
    assert "n_x" in Schema(open_to_numbers).fault_in({"n_x": "a"})
    assert "'y' was unexpected" in Schema(open_to_numbers).fault_in({"y": 1})
    assert "linear time" in Schema({"pattern": r"(a)\1"}).fault_in("aa")
    assert search_linear("é+", "caféé")


def test_template_of_a_server_is_matched_without_backtracking() -> None:
    template = Template("y:///" + "".join(f"{{{name}}}" for name in "abcdefghijkl") + "!")
    assert cpu_seconds(lambda: template.match(("y", "a" * 200))) < 0.1
    assert template.match(("y", "a" * 20 + "!")) == "y:///" + "a" * 20 + "!"
    assert Template("f:///{day}-{month}.txt").match(("f", "01-02-03.txt")) == "f:///01-02-03.txt"
    assert Template("f:///{day}-{month}.txt").match(("f", "-02.txt")) == ""


def test_search_process_ends_with_its_daemon(own_live: Live) -> None:
    eventually("it is indexed", lambda: own_live.try_run("grep", "Rotate", "knowledge").returncode == 0, 60)
    daemon = own_live.daemon_pid()

    def search_processes() -> list[str]:
        processes = subprocess.run(["pgrep", "-P", str(daemon), "-f", "grep_process"], capture_output=True, text=True)
        return processes.stdout.split()

    before = search_processes()
    assert len(before) == 1
    own_live.run("unmount", "--all")
    eventually("it ends", lambda: not Path(f"/proc/{before[0]}").exists())
