"""Detection of mail by its content: messages and mailboxes whose names do not show it, and the borders of messages. Pure."""

import re

# Names of Maildir (`1700000000.M1P1.host:2,S`) and MH (`12`), and names without a suffix (`mbox`, `Sent`).
_MAILDIR_NAME = re.compile(r"\d{8,12}\.[^/]{1,200}")
_SUFFIX = re.compile(r".\.[A-Za-z][A-Za-z0-9_+-]{0,11}$")
_FROM_LINE = re.compile(rb"^From \S+([^\n]*)$", re.MULTILINE)
_TIME_OF_DAY = re.compile(rb"\s\d{1,2}:\d\d\b")
_ASCTIME = re.compile(rb"\s[A-Z][a-z]{2}\s+[A-Z][a-z]{2}\s+\d{1,2}\s+\d\d:\d\d(?::\d\d)?\s.*\d{4}")
_HEADER_LINE = re.compile(rb">?[!-9;-~]{1,80}:")
# Headers of delivered messages: three of these begin no other text.
_DELIVERED = re.compile(
    rb"^(return-path|received|delivered-to|message-id|from|to|date|subject|mime-version|x-[\w-]{1,60}|reply-to|cc|status|content-[\w-]{4,30}):",
    re.MULTILINE | re.IGNORECASE,
)
_MIN_DELIVERED_HEADERS = 3
_HEAD_BYTES = 4096


def may_be_mail(name: str) -> bool:
    """Return True for a name of a mail folder: without a suffix, or as in Maildir."""
    return _MAILDIR_NAME.fullmatch(name) is not None or _SUFFIX.search(name) is None


def is_mail(data: bytes) -> bool:
    """Return True for bytes that begin as a message or a mailbox does."""
    head = data[:_HEAD_BYTES].replace(b"\r\n", b"\n")
    if head.startswith(b"From ") and _is_separator(head, 0, head.find(b"\n")):
        head = head[head.find(b"\n") + 1 :]
    if not _HEADER_LINE.match(head):
        return False
    names = {match[1].lower() for match in _DELIVERED.finditer(header_block(head))}
    return len(names) >= _MIN_DELIVERED_HEADERS and bool(names & {b"from", b"return-path", b"message-id", b"received"})


def is_mailbox(data: bytes) -> bool:
    """Return True for a mailbox, whose messages begin with lines `From …`."""
    return data.startswith(b"From ") and _is_separator(data, 0, data.find(b"\n"))


def find_separators(data: bytes) -> list[int]:
    """Return the offsets of the lines that begin a message.

    A line `From ` begins one after an empty line, if it has a time, or nothing after the sender, and a header below it.
    Without the empty line it needs a whole date. So `From now on …` in a text begins none.
    """
    return [match.start() for match in _FROM_LINE.finditer(data) if _is_separator(data, match.start(), match.end())]


def _is_separator(data: bytes, start: int, end: int) -> bool:
    line = _FROM_LINE.match(data[start : end if end >= 0 else len(data)].rstrip(b"\r"))
    if line is None or not _HEADER_LINE.match(data, end + 1):
        return False
    rest = line[1].rstrip()
    before = data[max(0, start - 3) : start]
    is_apart = not before.strip() or before.endswith((b"\n\n", b"\n\r\n"))
    return bool(_ASCTIME.search(rest)) or (is_apart and (not rest or bool(_TIME_OF_DAY.search(rest))))


def header_block(data: bytes) -> bytes:
    """Return the headers of a message: all up to the first empty line."""
    match = re.search(rb"\r?\n\r?\n", data)
    return data[: match.start()] if match else data
