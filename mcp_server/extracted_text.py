"""`ctx_read` of PDF, office files, books, mail and notebooks: their extracted text, in parts, with the numbers of hits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ctxfs.context.build.token_bound import longest_prefix
from ctxfs.index.extract.extracted_text import NumberedLine, number_lines
from ctxfs.index.extract.extractor import unpack_chunk
from ctxfs.index.extract.text_formats import is_text_itself
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.tree_ops import REVISION_DIGITS
from ctxfs.mcp_server.uris import printable_path
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, one_line


class SourceContent(NamedTuple):
    """The content of a file that is text itself, and its label."""

    data: bytes
    label: str


async def read_extracted(
    tree: TreeSession, path: Path, arguments: Mapping[str, Any], cap: int
) -> tuple[str, str, bool] | SourceContent:
    """Return (label, text, True) of the requested passages that fit into `cap` tokens, or a file that is text itself.

    Without passages the text is the reason, with False. The file is read once, because that may advance a stream.
    """
    reply = await tree.call("read_extracted", path=str(path))
    kind, label = reply["format"], reply["label"]
    if not kind or (reply["reason"] and is_text_itself(kind)):
        return SourceContent(reply["data"], str(label))
    if reply["reason"]:
        reason = one_line(reply["reason"])
        return label, f"{printable_path(path)}: a {kind} file of {reply['size']} bytes: {reason}", False
    lines = number_lines([unpack_chunk(*row) for row in reply["passages"]])
    note = f"; {reply['note']}" if reply["note"] else ""
    remark = f"[text extracted from this {kind} file, [n] is a {reply['unit']}{note}; as=source: the file itself]"
    passages = _select_passages(lines, reply["unit"], reply["sha256"][:REVISION_DIGITS], arguments, cap)
    return label, f"{remark}\n{passages}", True


def _select_passages(
    lines: list[NumberedLine], unit: str, revision: str, arguments: Mapping[str, Any], cap: int
) -> str:
    """Return the passages with the requested numbers; `column` skips characters of their text, to continue it."""
    count = max((line.last for line in lines), default=0)
    tail, column = arguments.get("tail", 0), arguments.get("column", 0)
    first = max(1, count - tail + 1) if tail else arguments.get("offset", 1)
    last = min(count, first + arguments.get("limit", count) - 1)
    if first > max(count, 1):
        raise invalid("offset", f"the file has {count} {unit}s")
    text = "\n".join(line.text for line in lines if line.first <= last and line.last >= first)
    shown = longest_prefix(text[column : column + 4 * cap], cap)
    end = column + len(shown)
    limit = f" limit={arguments['limit']}" if "limit" in arguments else ""
    more = f"continue: offset={first}{limit} column={end}; " if end < len(text) else ""
    span = "" if first == 1 and last == count else f"{unit}s {first}-{last} of "
    plural = "" if count == 1 else "s"
    return f"{shown}\n[{more}{span}{count} {unit}{plural}, revision {revision}]"
