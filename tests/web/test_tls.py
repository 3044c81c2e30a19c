"""Test servers for other machines: only behind TLS and a token, with sentences for each file that cannot be used."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctxfs.http.address import TcpAddress
from ctxfs.http.endpoint import Endpoint, TlsOptions, make_endpoint
from ctxfs.model.errors import CommandError
from tests.certificates import Pair, make_pair
from tests.live import BOUND, Live, eventually
from tests.serve.server import issue_token
from tests.web.site import Site

NAME = "ctxfs.test"
HERE = "127.0.0.1"
ANY = "0.0.0.0"  # the address of all interfaces: other machines reach it


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"), NAME, "*.ctxfs.test", HERE)


def refused(address: str, *options: object) -> CommandError:
    with pytest.raises(CommandError) as caught:
        make_endpoint(TcpAddress(address, 8200), TlsOptions(*map(str, options[:2]), options[2] if options[2:] else ()))  # type: ignore[arg-type]
    assert caught.value.remedy, "a remedy is named"
    return caught.value


@pytest.mark.parametrize("address", [ANY, "::", "192.0.2.7", "example.org", ""])
def test_address_of_other_machines_needs_tls(address: str) -> None:
    error = refused(address)
    assert "there is no TLS" in error.message
    assert "--tls-cert" in error.remedy


@pytest.mark.parametrize("address", [HERE, "localhost", "::1"])
def test_address_of_this_machine_needs_none(address: str) -> None:
    endpoint = make_endpoint(TcpAddress(address, 0), TlsOptions())
    assert endpoint.tls is None
    assert endpoint.url(8200).startswith("http://")
    assert "localhost:8200" in endpoint.hosts(8200)


def test_host_names_without_tls_are_refused() -> None:
    assert "no TLS" in refused(HERE, "", "", ["ctxfs.test"]).message


def test_certificate_and_key_are_given_together(pair: Pair) -> None:
    assert "--tls-key" in refused(HERE, pair.certificate, "").remedy
    assert "--tls-key" in refused(HERE, "", pair.key).remedy


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o620, 0o602])
def test_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    made = make_pair(tmp_path, NAME, mode=mode)
    error = refused(ANY, *made.options[1::2])
    assert "other users can use the key" in error.message
    assert error.remedy == f"chmod 600 '{made.key}'"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_key_of_another_user_may_be_read_by_a_group(tmp_path: Path) -> None:
    made = make_pair(tmp_path, NAME, mode=0o640)
    os.chown(made.key, 12345, 12345)
    assert make_endpoint(TcpAddress(ANY, 0), TlsOptions(str(made.certificate), str(made.key))).tls


@pytest.mark.parametrize(("first_day", "last_day", "text"), [(-10, -1, "has expired on 2"), (3, 9, "is valid from 2")])
def test_certificate_of_another_time_is_refused(tmp_path: Path, first_day: int, last_day: int, text: str) -> None:
    made = make_pair(tmp_path, NAME, first_day=first_day, last_day=last_day)
    assert text in refused(ANY, *made.options[1::2]).message


def test_unusable_files_are_named_with_the_remedy(tmp_path: Path, pair: Pair) -> None:
    other = make_pair(tmp_path / "other", NAME)
    locked = make_pair(tmp_path / "locked", NAME, password=b"secret")
    text = tmp_path / "text.pem"
    text.write_text("no pem\n")
    text.chmod(0o600)
    large = tmp_path / "large.pem"
    large.write_bytes(b"x" * 1_000_001)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    cases = {
        (pair.certificate, other.key): "does not belong to the certificate",
        (other.certificate, pair.key): "does not belong to the certificate",
        (pair.certificate, locked.key): "has a password",
        (text, pair.key): f"'{text}' has no certificate",
        (pair.certificate, text): f"'{text}' has no private key",
        (pair.key, pair.key): "has no certificate",
        (tmp_path / "absent", pair.key): "No such file",
        (pair.certificate, tmp_path / "absent"): "No such file",
        (tmp_path, pair.key): "it is no file",
        (large, pair.key): "it is no file of at most 1 MB",
        (fifo, pair.key): "it is no file",
        (pair.certificate, fifo): "it is no file",
    }
    for files, cause in cases.items():
        assert cause in refused(ANY, *files).message, files


def endpoint_of(pair: Pair, address: str, *hostnames: str) -> Endpoint:
    return make_endpoint(TcpAddress(address, 0), TlsOptions(str(pair.certificate), str(pair.key), hostnames))


def test_names_are_those_given_or_of_the_certificate(pair: Pair, tmp_path: Path) -> None:
    assert endpoint_of(pair, ANY).hosts(8443) == (f"{NAME}:8443", f"{HERE}:8443")
    assert endpoint_of(pair, "192.0.2.7", "A.ctxfs.test", NAME).hosts(8443) == (
        "a.ctxfs.test:8443",
        f"{NAME}:8443",
        "192.0.2.7:8443",
    )
    assert NAME in endpoint_of(pair, ANY).hosts(443), "browsers leave the default port out"
    assert endpoint_of(pair, ANY, NAME).url(8443) == f"https://{NAME}:8443"
    assert not endpoint_of(pair, ANY, "a.ctxfs.test").warnings
    (warning,) = endpoint_of(pair, ANY, "evil.example").warnings
    assert "does not name 'evil.example'" in warning
    assert "--hostname" in refused(ANY, *make_pair(tmp_path).options[1::2]).remedy


@pytest.mark.parametrize("name", ["", "a b", "https://ctxfs.test", "ctxfs.test:8443", "a/b", "x\ny", "*.test", "é"])
def test_host_names_are_checked(pair: Pair, name: str) -> None:
    assert "no host name" in refused(ANY, *pair.options[1::2], [name]).message


@contextmanager
def refusal_of(live: Live, *arguments: str) -> Iterator[subprocess.CompletedProcess[str]]:
    done = live.try_run(*arguments)
    assert done.returncode != 0
    assert "→" in done.stderr
    assert "Traceback" not in done.stderr
    yield done


@pytest.mark.parametrize(
    "command",
    [["web", "--no-open", "--host", ANY], ["serve", "--http", f"{ANY}:0"], ["mcp", "--http", f"{ANY}:8765"]],
)
def test_commands_refuse_other_machines_without_tls(offline: Live, command: Sequence[str]) -> None:
    with refusal_of(offline, *command) as done:
        assert "there is no TLS" in done.stderr


def test_page_for_other_machines_needs_a_token(offline: Live, pair: Pair) -> None:
    for identity in ([], ["--as", "agent:alice"]):
        with refusal_of(offline, "web", "--no-open", "--host", ANY, *pair.options, *identity) as done:
            assert "needs a token" in done.stderr
            assert "ctxfs token issue" in done.stderr


class Client:
    """A client that verifies the certificate, and connects to this machine by any name."""

    def __init__(self, pair: Pair, port: int, name: str = NAME) -> None:
        self.context = ssl.create_default_context(cafile=str(pair.certificate))
        self.port = port
        self.name = name

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> http.client.HTTPResponse:
        raw = socket.create_connection((HERE, self.port), BOUND)
        connection = http.client.HTTPConnection(self.name, self.port)
        connection.sock = self.context.wrap_socket(raw, server_hostname=self.name)
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        response.content = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response


def check_plain_http_is_refused(port: int) -> None:
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b""):
        with socket.create_connection((HERE, port), BOUND) as plain:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            answer = b""
            while part := plain.recv(4096):
                answer += part
        assert not answer.startswith(b"HTTP"), answer


@pytest.mark.long
def test_page_over_tls_acts_for_its_token(own_live: Live, pair: Pair) -> None:
    token = issue_token(own_live, "agent:alice")
    site = Site(own_live, "--host", ANY, "--token", token, *pair.options)
    match = re.fullmatch(rf"https://{NAME}:(\d+)(/[\w-]+/)open\?secret=([\w-]+)", site.address)
    assert match, site.address
    port, prefix, secret = int(match[1]), match[2], match[3]
    client, host = Client(pair, port), f"{NAME}:{port}"
    opened = client.send("GET", f"{prefix}open?secret={secret}", {"Host": host})
    assert opened.status == 200
    cookie = opened.headers["Set-Cookie"]
    assert {"Secure", "HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert opened.headers["Strict-Transport-Security"].startswith("max-age=")
    assert client.send("GET", f"{prefix}open?secret={secret}", {"Host": host}).status == 401, "it opens once"
    session = {"Host": host, "Cookie": cookie.split(";")[0], "Sec-Fetch-Site": "same-origin"}
    page = client.send("GET", f"{prefix}file", session)
    assert page.status == 200
    text = page.content.decode()  # type: ignore[attr-defined]
    assert "agent:alice" in text
    form_token = re.search(r'name="form_token" value="([^"]+)"', text)
    assert form_token
    form = f"form_token={form_token[1]}&q=x".encode()
    unsafe = {**session, "Content-Type": "application/x-www-form-urlencoded", "Origin": f"https://{host}"}
    assert client.send("POST", f"{prefix}contexts/new", unsafe, form).status == 403, "it only reads"
    for other in (f"http://{host}", f"https://evil.example:{port}"):
        assert client.send("POST", f"{prefix}contexts/new", {**unsafe, "Origin": other}, form).status == 403
    for name in (f"localhost:{port}", f"{ANY}:{port}", "evil.example", NAME, f"{NAME}:1"):
        assert client.send("GET", f"{prefix}file", {**session, "Host": name}).status == 421, name
    check_plain_http_is_refused(port)
    assert client.send("GET", f"{prefix}file", session).status == 200, "it serves on"
    refused_owner = own_live.try_run("web", "--no-open")
    assert refused_owner.returncode != 0
    assert "needs a token" in refused_owner.stderr, "the owner gets no session there either"
    assert own_live.run("web", "--no-open", "--token", token).startswith(f"https://{NAME}:{port}{prefix}")
    again = own_live.try_run("web", "--no-open", "--host", ANY, "--token", token, *pair.options)
    assert "has a page already" in again.stderr
    assert "Traceback" not in site.close()


@pytest.mark.long
def test_methods_over_tls_need_a_token_and_a_name(live: Live, pair: Pair) -> None:
    token = issue_token(live, "agent:alice")
    process = subprocess.Popen(
        live.command("serve", "--http", f"{ANY}:0", "--hostname", "evil.example", "--hostname", NAME, *pair.options),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert "does not name 'evil.example'" in process.stderr.readline()
        line = process.stderr.readline()
        match = re.search(r"https://evil\.example:(\d+);", line)
        assert match, line
        port = int(match[1])
        client = Client(pair, port)
        bearer = {"Authorization": f"Bearer {token}", "Host": f"{NAME}:{port}"}
        answer = client.send("POST", "/api/whoami", bearer, b"{}")
        assert answer.status == 200
        assert b"agent:alice" in answer.content  # type: ignore[attr-defined]
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
        assert client.send("POST", "/api/whoami", {"Host": f"{NAME}:{port}"}, b"{}").status == 401
        assert client.send("POST", "/api/whoami", {**bearer, "Host": f"localhost:{port}"}, b"{}").status == 421
        check_plain_http_is_refused(port)
        with pytest.raises(ssl.SSLError):
            Client(make_pair(pair.key.parent / "other", NAME), port).send("GET", "/openapi.json", bearer)
        assert client.send("GET", "/openapi.json", bearer).status == 200
    finally:
        process.terminate()
        errors = process.stderr.read()
        process.stderr.close()
        assert process.wait(BOUND) == 0
        assert "Traceback" not in errors, errors


def test_stdio_and_unix_sockets_have_no_tls(offline: Live, pair: Pair, tmp_path: Path) -> None:
    for options in ([], ["--http", f"unix:{tmp_path}/mcp.socket"]):
        with refusal_of(offline, "mcp", *options, *pair.options) as done:
            assert "no TLS" in done.stderr


@pytest.mark.long
def test_mcp_over_tls_needs_a_token_and_a_name(live: Live, pair: Pair) -> None:
    token = issue_token(live, "agent:alice")
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port = probe.getsockname()[1]
    command = live.command("mcp", "--http", f"{ANY}:{port}", "--hostname", NAME, *pair.options)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert f"serving https://{NAME}:{port}/mcp;" in process.stderr.readline()

        def is_listening() -> bool:
            with socket.socket() as client:
                return client.connect_ex((HERE, port)) == 0

        eventually("it listens", is_listening)
        client = Client(pair, port)
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode()
        headers = {
            "Authorization": f"Bearer {token}",
            "Host": f"{NAME}:{port}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        answer = client.send("POST", "/mcp", headers, body)
        assert answer.status == 200
        assert b"serverInfo" in answer.content  # type: ignore[attr-defined]
        assert client.send("POST", "/mcp", {**headers, "Authorization": ""}, body).status == 401
        assert client.send("POST", "/mcp", {**headers, "Host": f"evil.example:{port}"}, body).status == 421
        assert client.send("POST", "/mcp", {**headers, "Origin": "https://evil.example"}, body).status == 403
        check_plain_http_is_refused(port)
    finally:
        process.terminate()
        errors = process.stderr.read()
        process.stderr.close()
        assert process.wait(BOUND) == 0
        assert "Traceback" not in errors, errors


def test_old_versions_of_tls_are_refused(pair: Pair) -> None:
    tls = endpoint_of(pair, ANY).tls
    assert tls is not None
    assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
