"""Results of MCP servers as plain values: text, files and fault."""

import base64
import binascii
import json
import mimetypes
from collections.abc import Sequence
from typing import Any

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from ctxfs.mcp_client.uri_paths import file_name

Files = list[tuple[str, bytes]]


def result_of(result: CallToolResult, max_bytes: int) -> dict[str, Any]:
    """Return {text, structured, files, fault} of a call; a result of more than `max_bytes` bytes is a fault."""
    text, files = _contents(result.content)
    size = len(text) + sum(len(data) for _, data in files)
    if size > max_bytes:
        return {
            "text": text[:max_bytes],
            "structured": None,
            "files": [],
            "fault": f"it answered with more than {max_bytes} bytes",
        }
    fault = (text.strip().splitlines() or ["it failed, and does not say why"])[0][:300] if result.is_error else ""
    structured = result.structured_content
    if structured is not None and not text and not files:
        text = json.dumps(structured, ensure_ascii=False, indent=1) + "\n"
    return {"text": text, "structured": structured, "files": [list(file) for file in files], "fault": fault}


def prompt_result(result: GetPromptResult) -> dict[str, Any]:
    """Return the messages of a prompt as text, in the form of `result_of`."""
    pieces, files = [], Files()
    several = len(result.messages) > 1
    for message in result.messages:
        text, more = _contents([message.content])
        files += more
        pieces.append(f"{message.role}: {text}" if several else text)
    return {"text": "\n".join(pieces), "structured": None, "files": [list(file) for file in files], "fault": ""}


def _contents(blocks: Sequence[Any]) -> tuple[str, Files]:
    pieces: list[str] = []
    files = Files()
    for block in blocks:
        match block:
            case TextContent(text=text):
                pieces.append(text)
            case ImageContent(data=data, mime_type=kind) | AudioContent(data=data, mime_type=kind):
                label = "image" if isinstance(block, ImageContent) else "audio"
                name = f"{label}-{len(files) + 1}{_extension(kind)}"
                files.append((name, _decoded(data)))
                pieces.append(f"[{label}: {name}]")
            case ResourceLink():
                suffix = f" - {block.description}" if block.description else ""
                pieces.append(f"[{block.name}]({block.uri}){suffix}")
            case EmbeddedResource(resource=inner):
                name = f"{len(files) + 1}-{file_name(str(inner.uri).rsplit('/', 1)[-1] or 'document')}"
                files.append((name, document(inner)))
                pieces.append(f"[{inner.uri}: {name}]")
            case _:
                pieces.append(block.model_dump_json(by_alias=True, exclude_none=True))
    text = "\n".join(pieces)
    return text + "\n" if text and not text.endswith("\n") else text, files


def document(resource: TextResourceContents | BlobResourceContents) -> bytes:
    """Return the content of a resource."""
    if isinstance(resource, TextResourceContents):
        return resource.text.encode("utf-8", "replace")
    return _decoded(resource.blob)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return data.encode("utf-8", "replace")  # declared as base64 but invalid: keep the text


def _extension(kind: str) -> str:
    return mimetypes.guess_extension(kind.partition(";")[0].strip()) or ".bin"
