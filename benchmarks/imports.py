"""Speed of imports: `python -m benchmarks.imports [--megabytes 60] [--daemon]`.

Transcripts of all clients are made up from the texts of Python's library and imported: megabytes a minute of a first
and of a second import, and the messages that the second one adds (0 wanted). With `--daemon` the store is mounted, and
the daemon indexes meanwhile: also megabytes a minute until everything is in the full-text index, and the time until one
more message is found.
"""

import argparse
import json
import random
import resource
import sysconfig
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, bench, cpu_seconds, memory_mb, processes_of, report
from ctxfs.index.indexer_status import parse_indexer_status

CLIENTS = ("claude-code", "codex", "gemini", "chatgpt", "claude", "jsonl")
MESSAGES = 60  # of a session
FOLDER = "/home/ada/work"
MAX_SECONDS = 600.0


class Writer:
    """A source of made-up turns: (question, answer, command, output) of lines of code and their comments."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        self._lines = [line for file in files for line in file.read_text(errors="replace").splitlines() if line.strip()]
        self._seconds = 0

    def turn(self) -> tuple[str, str, str, str]:
        """Return the texts of a turn: a line, a paragraph, a line, and 20 to 200 lines."""
        return self._take(1), self._take(12), self._take(1), self._take(self._random.randint(20, 200))

    def uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def stamp(self) -> str:
        self._seconds += 7
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1_780_000_000 + self._seconds))

    def _take(self, count: int) -> str:
        start = self._random.randrange(len(self._lines) - count)
        return "\n".join(self._lines[start : start + count])


def claude_code_lines(writer: Writer, session: str) -> Iterator[dict[str, Any]]:
    def line(role: str, content: Any) -> dict[str, Any]:
        common = {"uuid": writer.uid(), "sessionId": session, "timestamp": writer.stamp(), "cwd": FOLDER}
        return {"type": role, **common, "message": {"role": role, "content": content, "model": "m"}}

    for number in range(MESSAGES // 4):
        question, answer, command, output = writer.turn()
        yield line("user", question)
        call = {"type": "tool_use", "id": f"t{number}", "name": "Bash", "input": {"command": command}}
        yield line("assistant", [{"type": "text", "text": answer}, call])
        yield line("user", [{"type": "tool_result", "tool_use_id": f"t{number}", "content": output}])


def codex_lines(writer: Writer, session: str) -> Iterator[dict[str, Any]]:
    def line(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        return {"timestamp": writer.stamp(), "type": kind, "payload": payload}

    yield line("session_meta", {"id": session, "cwd": FOLDER})
    for number in range(MESSAGES // 4):
        question, answer, command, output = writer.turn()
        for role, text in (("user", question), ("assistant", answer)):
            yield line("response_item", {"type": "message", "role": role, "content": [{"text": text}]})
        call = {"call_id": f"c{number}", "name": "shell"}
        yield line("response_item", {"type": "function_call", "arguments": json.dumps({"cmd": command}), **call})
        yield line("response_item", {"type": "function_call_output", "call_id": f"c{number}", "output": output})


def gemini_chat(writer: Writer, session: str) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for number in range(MESSAGES // 4):
        question, answer, command, output = writer.turn()
        result = [{"functionResponse": {"response": {"output": output}}}]
        call = {"id": f"c{number}", "name": "shell", "args": {"command": command}, "result": result}
        messages.append({"id": writer.uid(), "timestamp": writer.stamp(), "type": "user", "content": question})
        message = {"id": writer.uid(), "timestamp": writer.stamp(), "type": "gemini", "content": answer}
        messages.append({**message, "toolCalls": [call]})
    return {"sessionId": session, "projectHash": "ab" * 32, "messages": messages}


def chatgpt_conversation(writer: Writer, session: str) -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    parent = None
    for _ in range(MESSAGES // 2):
        for role, text in zip(("user", "assistant"), (writer.turn()[0], writer.turn()[3]), strict=True):
            name = writer.uid()
            content = {"content_type": "text", "parts": [text]}
            message = {"id": name, "author": {"role": role}, "content": content, "create_time": 1.78e9}
            nodes[name] = {"id": name, "parent": parent, "message": message}
            parent = name
    return {"conversation_id": session, "title": "made up", "mapping": nodes, "current_node": parent}


def claude_conversation(writer: Writer, session: str) -> dict[str, Any]:
    messages = [
        {"uuid": writer.uid(), "sender": sender, "created_at": writer.stamp(), "text": text}
        for _ in range(MESSAGES // 2)
        for sender, text in (("human", writer.turn()[0]), ("assistant", writer.turn()[3]))
    ]
    return {"uuid": session, "name": "made up", "chat_messages": messages}


def json_lines(writer: Writer, session: str) -> Iterator[dict[str, Any]]:
    for _ in range(MESSAGES // 2):
        for role, text in (("user", writer.turn()[0]), ("assistant", writer.turn()[3])):
            yield {"role": role, "content": text, "timestamp": writer.stamp(), "session": session}


def write_transcripts(client: str, folder: Path, megabytes: float) -> tuple[Path, float]:
    """Write transcripts of a client; return (path, megabytes)."""
    writer, size, number = Writer(sum(map(ord, client))), 0, 0
    conversations: list[str] = []
    folder.mkdir(parents=True)
    while size < megabytes * 1e6:
        session, number = writer.uid(), number + 1
        if client in ("claude-code", "codex", "jsonl"):
            makers = {"claude-code": claude_code_lines, "codex": codex_lines, "jsonl": json_lines}
            text = "".join(f"{json.dumps(line)}\n" for line in makers[client](writer, session))
            name = {"claude-code": f"p/{session}.jsonl", "codex": f"rollout-{number:06}-{session}.jsonl"}.get(
                client, "x.jsonl"
            )
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(text)
        elif client == "gemini":
            text = json.dumps(gemini_chat(writer, session))
            path = folder / "chats" / f"session-{session}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        else:
            maker = chatgpt_conversation if client == "chatgpt" else claude_conversation
            text = json.dumps(maker(writer, session))
            conversations.append(text)
        size += len(text)
    if conversations:
        with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("conversations.json", f"[{','.join(conversations)}]")
        return folder / "export.zip", size / 1e6
    return folder / "x.jsonl" if client == "jsonl" else folder, size / 1e6


def is_indexed(index: dict[str, Any]) -> bool:
    """Return True if the full-text index has caught up with the files."""
    status = parse_indexer_status(str(index.get("state", "")))
    return status is not None and not status.has_pending_words and not index.get("behind")


def time_until_found(setup: Bench) -> float:
    """Return the seconds from the begin of an import of one message until its word finds it."""
    file = setup.folder / "marker.jsonl"
    file.write_text(json.dumps({"role": "user", "content": "The quokkaferry leaves at seven."}) + "\n")
    start = time.perf_counter()
    setup.ctxfs("import", "jsonl", str(file))
    while time.perf_counter() - start < MAX_SECONDS:
        output = setup.ctxfs("search", "+quokkaferry kind:history mode:words", "-n", "1", "--json")
        if json.loads(output)["hits"]:
            return time.perf_counter() - start
        time.sleep(0.1)
    raise TimeoutError("the message is not found")


def cpu_of_children() -> float:
    """Return the processor seconds of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def time_import(setup: Bench, client: str, path: Path) -> tuple[float, int]:
    """Return (seconds, number of added messages) of an import."""
    start = time.perf_counter()
    added = json.loads(setup.ctxfs("import", client, str(path), "--json"))["added"]
    return time.perf_counter() - start, int(added)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=60.0)
    parser.add_argument("--daemon", action="store_true")
    arguments = parser.parse_args()
    rows: dict[str, object] = {}
    with bench() as setup:
        setup.ctxfs("init")
        config = setup.store / "ctxfs.toml"
        config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
        made = {client: write_transcripts(client, setup.folder / client, arguments.megabytes / 6) for client in CLIENTS}
        if arguments.daemon:
            setup.ctxfs("mount", str(setup.mountpoint))
        start, used = time.perf_counter(), cpu_of_children()
        first = {client: time_import(setup, client, path) for client, (path, _) in made.items()}
        total = sum(size for _, size in made.values())
        used = cpu_of_children() - used
        if arguments.daemon:
            # The first messages are those that have waited longest, the last one has to be in the index as well.
            setup.wait(MAX_SECONDS, is_indexed)
            rows["all clients: MB a minute until all is found by words"] = (
                f"{total / (time.perf_counter() - start) * 60:.0f}"
            )
            parts = {"commands": used} | {name: cpu_seconds(pid) for name, pid in processes_of(setup.store).items()}
            rows["processor seconds until then"] = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
            rate = total / sum(parts.values()) * 60
            rows["MB a minute of one processor until all is found by words"] = f"{rate:.0f}"
            rows["seconds from an import of one message until it is found"] = f"{time_until_found(setup):.1f}"
        second = {client: time_import(setup, client, path) for client, (path, _) in made.items()}
        for client, (_, size) in made.items():
            rates = ", ".join(f"{size / run[client][0] * 60:.0f}" for run in (first, second))
            rows[f"{client}, {size:.0f} MB, {first[client][1]} messages: MB a minute, first and second import"] = rates
        rows["added by the second imports"] = sum(added for _, added in second.values())
        if arguments.daemon:
            rows["memory of the daemon, MB"] = (
                f"{memory_mb(int((setup.store / 'run' / 'lock').read_text()))['rss']:.0f}"
            )
    report(rows)


if __name__ == "__main__":
    main()
