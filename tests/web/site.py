"""A running `ctxfs web` for tests, and an HTTP client with the headers of a browser, or of an attacker."""

import http.client
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.live import BOUND, Live, eventually

_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


@dataclass
class Element:
    tag: str
    attributes: Mapping[str, str]
    text: str = ""


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while tag not in _VOID and self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.body.decode()

    def elements(self, tag: str = "") -> list[Element]:
        """Return the elements of the page, as an HTML parser finds them."""
        parser = _Parser()
        parser.feed(self.text)
        return [element for element in parser.elements if tag in ("", element.tag)]

    def link(self, text: str) -> str:
        """Return the address of the first link with this text."""
        return next(e.attributes["href"] for e in self.elements("a") if e.text.strip() == text)

    def main_text(self) -> str:
        """Return the text of the page, without its header."""
        return self.elements("main")[0].text


class Visitor:
    """One client with its cookie, at the address of a page."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.port = parts.port or 0
        self.prefix = "/" + parts.path.split("/")[1]
        self.secret = dict(parse_qsl(parts.query))["secret"]
        self.cookie = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(
        self, method: str, path: str, headers: Mapping[str, str | None] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request as a browser would; `headers` add to it, replace, or remove (None)."""
        sent = {"Host": self.host, "Sec-Fetch-Site": "same-origin", "Cookie": f"ctxfs={self.cookie}"}
        merged = {name: value for name, value in ({**sent, **(headers or {})}).items() if value is not None}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in merged.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            cookies = response.headers.get_all("Set-Cookie") or []
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read(), cookies)
        finally:
            connection.close()

    def open(self, **headers: str | None) -> Answer:
        """Open the printed address, and keep its cookie."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.send(
            "GET", f"{self.prefix}/open?secret={self.secret}", {"Sec-Fetch-Site": "none", "Cookie": None, **named}
        )
        for cookie in answer.cookies:
            self.cookie = cookie.split(";")[0].partition("=")[2]
        return answer

    def get(self, screen: str, headers: Mapping[str, str | None] | None = None, **query: str | bytes | int) -> Answer:
        """Load a screen."""
        return self.send("GET", self.path(screen, **query), headers)

    def path(self, screen: str, **query: str | bytes | int) -> str:
        """Return the path of a screen; names that are not UTF-8 may be given as in `os.listdir`."""
        encoded = urlencode({n: os.fsencode(v) if isinstance(v, str) else v for n, v in query.items()})
        return f"{self.prefix}/{screen}" + (f"?{encoded}" if encoded else "")

    def form_token(self) -> str:
        """Return the form token of this session's pages."""
        inputs = self.get("file").elements("input")
        return next(e.attributes["value"] for e in inputs if e.attributes.get("name") == "form_token")

    def post(self, screen: str, fields: Mapping[str, str], headers: Mapping[str, str | None] | None = None) -> Answer:
        """Send a form."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://{self.host}"}
        return self.send(
            "POST", f"{self.prefix}/{screen}", {**sent, **(headers or {})}, urlencode(dict(fields)).encode()
        )


class Site:
    """A process of `ctxfs web`."""

    def __init__(self, live: Live, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.live = live
        self.process = subprocess.Popen(
            live.command("web", "--no-open", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().decode().strip()
        assert self.address or self.process.wait(BOUND) is None, self._errors()

    def _errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def visitor(self, *arguments: str) -> Visitor:
        """Return a client with a session of its own; the arguments are those of a second `ctxfs web`."""
        visitor = Visitor(self.live.run("web", "--no-open", *arguments).strip())
        assert visitor.open().status == 200
        return visitor

    def close(self) -> str:
        """End the process, and return its messages."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(BOUND)
        errors = self._errors()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return errors


@contextmanager
def running(live: Live, *arguments: str) -> Iterator[Site]:
    """Run `ctxfs web` on a store; its end must be clean."""
    site = Site(live, *arguments)
    try:
        yield site
    finally:
        errors = site.close()
        assert "Traceback" not in errors, errors


def until_found(visitor: Visitor, question: str, word: str) -> Answer:
    """Ask until a page has this word; the index follows the files soon."""

    def attempt() -> Answer | None:
        answer = visitor.get("ask", q=question)
        return answer if word in answer.main_text() else None

    answer = eventually(f"'{word}' is found", attempt)
    assert answer is not None
    return answer
