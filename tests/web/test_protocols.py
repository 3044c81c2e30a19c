"""Test that the page speaks HTTP/1.1 only: other protocols are refused, and their parsers are not loaded."""

import socket
import subprocess
import sys

import pytest

from tests.live import BOUND
from tests.web.site import Site, Visitor

HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HTTP2_UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    "HTTP2-Settings: AAMAAABk\r\n\r\n"
)
HTTP2_PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def exchange(visitor: Visitor, request: str) -> bytes:
    """Send bytes, and return all that the page sends until it ends the connection."""
    with socket.create_connection(("127.0.0.1", visitor.port), timeout=BOUND) as connection:
        connection.sendall(request.format(host=visitor.host).encode())
        received = b""
        while data := connection.recv(65_536):
            received += data
        return received


@pytest.mark.parametrize("request_text", [HTTP2_UPGRADE, HTTP2_PREFACE])
def test_a_client_that_begins_with_http2_is_disconnected(site: Site, owner: Visitor, request_text: str) -> None:
    received = exchange(owner, request_text)
    assert b"200" not in received
    assert b"SETTINGS" not in received
    assert owner.get("access").status == 200
    assert site.process.poll() is None


def test_a_websocket_handshake_is_a_plain_request_without_a_session(site: Site, owner: Visitor) -> None:
    received = exchange(owner, HANDSHAKE)
    assert received.startswith(b"HTTP/1.1 404")
    assert owner.get("access").status == 200
    assert site.process.poll() is None


def test_the_page_loads_no_parser_of_other_protocols() -> None:
    code = (
        "import sys, ctxfs.cli.page_server, ctxfs.http.endpoint, ctxfs.web.server\n"
        "others = {'h2', 'hpack', 'wsproto', 'click', 'tomlkit', 'pygments', 'numpy', 'markdown_it', 'ctxfs.index.query'}\n"
        "print({'hypercorn.trio', *others} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'hypercorn.trio'}"
