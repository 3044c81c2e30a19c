"""A running `ctxfs serve` for tests, and an HTTP client for it."""

import http.client
import json
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.live import BOUND, Live


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Server:
    """A process of `ctxfs serve`."""

    def __init__(self, live: Live, *arguments: str) -> None:
        self.process = subprocess.Popen(
            live.command("serve", "--http", "127.0.0.1:0", *arguments), stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        match = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert match, line + self.process.stderr.read()
        self.port = int(match[1])
        self.url = match[0]

    def send(
        self, method: str, path: str, token: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND)
        try:
            sent = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, body, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def call(self, name: str, token: str, /, **arguments: object) -> Answer:
        """Call a method."""
        return self.send("POST", f"/api/{name}", token, json.dumps(arguments).encode())

    def result(self, name: str, token: str, /, **arguments: object) -> Any:
        """Call a method, which must succeed, and return its result."""
        answer = self.call(name, token, **arguments)
        assert answer.status == 200, answer.body
        return answer.json["result"]

    def close(self) -> str:
        """End the process, and return its messages."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        with self.process.stderr:
            errors = self.process.stderr.read()
        assert self.process.wait(BOUND) == 0, errors
        return errors


@contextmanager
def serving(live: Live, *arguments: str) -> Iterator[Server]:
    """Run `ctxfs serve` on a store; its end must be clean."""
    server = Server(live, *arguments)
    try:
        yield server
    finally:
        errors = server.close()
        assert "Traceback" not in errors, errors


def issue_token(live: Live, principal: str, *arguments: str) -> str:
    """Return a new token of a principal."""
    return live.run("token", "issue", principal, *arguments).split()[0]
