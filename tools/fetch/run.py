"""Fetch a page or file from an allowed host, as text.

Input: JSON on stdin. Output: the text on stdout. Every redirect is checked like the address.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from email.message import Message
from html.parser import HTMLParser
from typing import IO
from urllib.parse import urlsplit

_DEFAULT_BYTES = 2_000_000
_TIMEOUT_SECONDS = 30
_SKIPPED = ("script", "style", "noscript", "template", "svg")
_BREAKS = ("p", "br", "div", "li", "tr", "section", "article", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "title")


class NotAllowed(Exception):
    """An address whose host is not allowed."""


def main() -> int:
    """Print the text; return exit code 1, with the reason on stderr, for any failure."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    arguments = json.loads(sys.stdin.buffer.read() or b"{}")
    try:
        print(
            fetch_text(
                str(arguments["url"]),
                raw=bool(arguments.get("raw")),
                max_bytes=int(arguments.get("max_bytes", _DEFAULT_BYTES)),
            )
        )
    except Exception as error:  # responses can raise any error: one line, no traceback
        message = " ".join(str(error).split())[:300] or type(error).__name__
        print(f"fetch: {message}", file=sys.stderr)
        return 1
    return 0


def check_host(url: str) -> str:
    """Return the address if its host is allowed. Raises NotAllowed."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotAllowed(f"'{url[:200]}' is no http or https address")
    allowed = os.environ.get("CTXFS_FETCH_HOSTS", "").lower().split()
    names = {parts.hostname.lower(), parts.netloc.rpartition("@")[2].lower()}
    if not names & set(allowed):
        raise NotAllowed(f"{parts.hostname} is not among tools.fetch_hosts of ctxfs.toml")
    return url


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        return super().redirect_request(req, fp, code, msg, headers, check_host(newurl))  # type: ignore[arg-type]  # typeshed


def fetch_text(url: str, *, raw: bool, max_bytes: int) -> str:
    """Return the content of an address as text of at most `most` bytes; HTML becomes plain text unless `raw`.

    Raises ValueError.
    """
    opener = urllib.request.build_opener(_CheckedRedirects())
    headers = {"User-Agent": "ctxfs", "Accept": "text/*,application/json;q=0.9,*/*;q=0.1"}
    request = urllib.request.Request(check_host(url), headers=headers)  # noqa: S310 - http and https alone
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
        data = response.read(max_bytes + 1)
        kind = response.headers.get_content_type()
        charset = response.headers.get_content_charset() or "utf-8"
    if len(data) > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    if b"\0" in data[:8192]:
        raise ValueError(f"it is no text, but {kind}")
    text: str = data.decode(charset, "replace")
    return text if raw or "html" not in kind else text_of(text)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._skipping = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipping += tag in _SKIPPED
        if tag in _BREAKS:
            self.pieces.append("\n")
        if tag[:1] == "h" and tag[1:].isdecimal():
            self.pieces.append("#" * int(tag[1:]) + " ")

    def handle_endtag(self, tag: str) -> None:
        self._skipping -= tag in _SKIPPED and self._skipping > 0
        if tag in _BREAKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self.pieces.append(" ".join(data.split()) + (" " if data[-1:].isspace() else ""))


def text_of(page: str) -> str:
    """Return the text of an HTML page, one block a line."""
    parser = _Text()
    parser.feed(page)
    lines = (line.strip() for line in "".join(parser.pieces).split("\n"))
    return "\n".join(line for line in lines if line)


if __name__ == "__main__":
    sys.exit(main())
