"""Serve a small MCP server of the handshake era for tests, with the standard library alone: it starts fast.

It misbehaves on request: `python small_server.py '{"tools": [...], "mood": "..."}'`; a tool does as it is called.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SAID: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
EDITS: list[int] = []
STATE = SAID.get("state", "")  # a file whose content becomes the description of `changing`


def schema(**properties: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in properties.items()}}


def tools() -> list[dict[str, Any]]:
    harmless = {"readOnlyHint": True, "openWorldHint": False}
    about = Path(STATE).read_text() if STATE and os.path.exists(STATE) else "As it was"
    number = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    definitions = [
        {"name": "echo", "description": "Say it again", "inputSchema": schema(word="string"), "annotations": harmless},
        {"name": "pid", "description": "Which process", "inputSchema": schema(), "annotations": harmless},
        {"name": "env", "description": "What it is given", "inputSchema": schema(), "annotations": harmless},
        {"name": "changing", "description": about, "inputSchema": schema(), "annotations": harmless},
        {"name": "drop", "description": "Drop a table", "inputSchema": schema(table="string")},
        {"name": "promise", "description": "A number", "inputSchema": schema(), "outputSchema": number},
        {"name": "big", "description": "Much", "inputSchema": schema(bytes="integer"), "annotations": harmless},
        {"name": "latin", "description": "No UTF-8", "inputSchema": schema(), "annotations": harmless},
        {"name": "hang", "description": "For ever", "inputSchema": schema(), "annotations": harmless},
        {"name": "fail", "description": "An error", "inputSchema": schema(), "annotations": harmless},
        {"name": "exit", "description": "Go", "inputSchema": schema(), "annotations": harmless},
        {"name": "flood", "description": "News", "inputSchema": schema(), "annotations": harmless},
        {"name": "steps", "description": "Progress", "inputSchema": schema(), "annotations": harmless},
        {"name": "edit", "description": "Edit a document", "inputSchema": schema(), "annotations": harmless},
        {"name": "ask", "description": "Ask a person", "inputSchema": schema(), "annotations": harmless},
    ]
    return [*definitions, *SAID.get("tools", [])]


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}], **more}


def call(number: Any, params: dict[str, Any]) -> dict[str, Any] | None:  # noqa: C901 - one case a tool
    name, arguments = params["name"], params.get("arguments", {})
    match name:
        case "echo":
            return text(str(arguments.get("word", "")))
        case "pid":
            return text(str(os.getpid()))
        case "env":
            return text(json.dumps(dict(os.environ)))
        case "promise":
            return text("{}", structuredContent={"m": 1})
        case "big":
            return text("x" * int(arguments["bytes"]))
        case "latin":
            line = json.dumps({"jsonrpc": "2.0", "id": number, "result": text("caf\\u00e9")})
            sys.stdout.buffer.write(line.replace("\\\\u00e9", "@").encode().replace(b"@", b"\xe9") + b"\n")
            sys.stdout.flush()
            return None
        case "hang":
            return None
        case "fail":
            return text("it went wrong", isError=True)
        case "exit":
            print("it has had enough", file=sys.stderr)
            sys.exit(3)
        case "flood":
            for _ in range(20_000):
                send({"method": "notifications/tools/list_changed"})
            return text("told")
        case "steps":
            token = params.get("_meta", {}).get("progressToken")
            for step in (1, 2, 3):
                send(
                    {
                        "method": "notifications/progress",
                        "params": {"progressToken": token, "progress": step, "total": 4},
                    }
                )
                time.sleep(0.1)  # as a call that reports progress does
            return text("done")
        case "edit":
            EDITS.append(1)
            send({"method": "notifications/resources/updated", "params": {"uri": "memo://a b/one.md"}})
            return text("edited")
        case "ask":
            asked = {"message": "Who are you?", "requestedSchema": schema(name="string")}
            send({"id": "q1", "method": "elicitation/create", "params": asked})
            answer = json.loads(sys.stdin.readline())
            return text(json.dumps(answer["result"]))
        case "changing":
            return text("as ever")
    return text(f"{name} was called")


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    method, params, number = message["method"], message.get("params", {}), message["id"]
    match method:
        case "initialize":
            has = {"tools": {"listChanged": True}, "prompts": {}, "resources": {"subscribe": True, "listChanged": True}}
            info = {"name": "small", "version": "1"}
            return {
                "protocolVersion": "2025-06-18",
                "capabilities": has,
                "serverInfo": info,
                "instructions": "Be careful.",
            }
        case "tools/list":
            return {"tools": tools()}
        case "tools/call":
            return call(number, params)
        case "prompts/list":
            return {"prompts": [{"name": "greet", "arguments": [{"name": "who", "required": True}]}]}
        case "prompts/get":
            words = {"type": "text", "text": f"Greet {params['arguments']['who']}."}
            return {"messages": [{"role": "user", "content": words}]}
        case "resources/list":
            return {"resources": [{"uri": uri, "name": uri} for uri in ("memo://a b/one.md", "memo://odd/%2Fetc")]}
        case "resources/templates/list":
            return {"resourceTemplates": [{"uriTemplate": "memo://made/{id}", "name": "made"}]}
        case "resources/read":
            uri = params["uri"]
            if uri.startswith("memo://made/") and not uri.removeprefix("memo://made/").isdigit():
                raise KeyError(uri)
            more = f"edited {len(EDITS)} times\n" if EDITS and uri.endswith("one.md") else ""
            return {"contents": [{"uri": uri, "text": f"about {uri}\n{more}"}]}
        case "resources/subscribe" | "ping":
            return {}
    raise KeyError(method)


def main() -> None:
    mood = SAID.get("mood", "")
    if mood == "garbage":
        print("Welcome!\n{not json}\n\x00\x01\n[]", flush=True)
    if mood == "only garbage":
        while True:
            print("hello " * 10, flush=True)
    if mood == "silent":
        time.sleep(600)
    if mood == "dead":
        print("no licence", file=sys.stderr)
        sys.exit(2)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        try:
            result = answer(message)
        except KeyError as error:
            send({"id": message["id"], "error": {"code": -32601, "message": f"no {error}"}})
            continue
        if result is not None:
            send({"id": message["id"], "result": result})


if __name__ == "__main__":
    main()
