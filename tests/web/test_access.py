"""Test the access to the page: addresses, cookies, hosts, origins, forms, and the limits of agents."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.live import BOUND, Live, eventually
from tests.web.site import Site, Visitor, running

SCREENS = ("", "ask", "file", "file?path=AGENTS.md", "static/style.css", "static/htmx.min.js")
FORM = {"q": "keys", "budget": "500"}


def made_contexts(live: Live) -> set[str]:
    return set(os.listdir(live.store / "tree" / "context"))


def test_an_address_opens_one_session_once(site: Site, live: Live) -> None:
    visitor = Visitor(live.run("web", "--no-open").strip())
    answer = visitor.open()
    assert answer.status == 200
    attributes = {part.strip().lower() for part in answer.cookies[0].split(";")[1:]}
    assert {"httponly", "samesite=strict", f"path={visitor.prefix.lower()}/"} <= attributes
    assert visitor.get("ask").status == 200
    again = Visitor(f"http://{visitor.host}{visitor.prefix}/open?secret={visitor.secret}")
    refused = again.open()
    assert refused.status == 401
    assert not refused.cookies
    assert "ctxfs web" in refused.text


def test_an_address_is_not_opened_by_a_part_of_another_page(site: Site, live: Live) -> None:
    visitor = Visitor(live.run("web", "--no-open").strip())
    for destination in ("image", "iframe", "script", "empty"):
        assert visitor.open(Sec_Fetch_Dest=destination, Sec_Fetch_Site="cross-site").status == 403
    assert visitor.open(Sec_Fetch_Dest="document", Sec_Fetch_Site="cross-site").status == 200, "it is not used up"


@pytest.mark.parametrize("cookie", [None, "ctxfs=", "ctxfs=forged", "ctxfs=" + "A" * 43, "other=1", "ctxfs=\x01;;==,"])
def test_a_forged_cookie_opens_nothing(owner: Visitor, cookie: str | None) -> None:
    for screen in SCREENS:
        answer = owner.send("GET", f"{owner.prefix}/{screen}", {"Cookie": cookie})
        assert answer.status == 401, screen
        assert "handbook" not in answer.text


def test_a_session_that_was_left_is_over(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.post("leave", {"form_token": visitor.form_token()}).status == 200
    assert visitor.get("ask").status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "evil.example:{port}", "[::1]:{port}", "", None]
)
def test_another_host_name_is_refused(owner: Visitor, host: str | None) -> None:
    """A name of an attacker that resolves to 127.0.0.1 reaches the port: DNS rebinding."""
    named = None if host is None else host.format(port=owner.port)
    for path in (f"{owner.prefix}/ask", f"{owner.prefix}/open?secret=x", f"{owner.prefix}/static/style.css", "/"):
        answer = owner.send("GET", path, {"Host": named})
        assert answer.status in (400, 421), path  # 400: the HTTP library itself refuses a request without Host
        assert "ctxfs" not in answer.headers.get("set-cookie", "")


def test_the_page_listens_on_the_loopback_only(site: Site, owner: Visitor) -> None:
    listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True).stdout
    port = f"{owner.port:04X}"
    assert {line.split()[1] for line in listening.splitlines() if f":{port} " in line and " 0A " in line} == {
        f"0100007F:{port}"
    }


@pytest.mark.parametrize("site_of_request", ["cross-site", "same-site"])
def test_other_sites_read_nothing(owner: Visitor, site_of_request: str) -> None:
    for screen in SCREENS:
        assert owner.get(screen, {"Sec-Fetch-Site": site_of_request}).status == 403, screen


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": None}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": None}, 415),
        ({"Cookie": None}, 401),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_a_form_of_another_page_changes_nothing(
    owner: Visitor, live: Live, headers: dict[str, str | None], status: int
) -> None:
    before = made_contexts(live)
    fields = FORM | {"form_token": owner.form_token()}
    assert owner.post("contexts/new", fields, headers).status == status
    assert made_contexts(live) == before


def test_a_form_needs_the_token_of_its_session(owner: Visitor, site: Site, live: Live) -> None:
    before = made_contexts(live)
    other = site.visitor().form_token()
    for token in ("", "x", other, owner.form_token()[:-1], "\udc80"):
        assert (
            owner.post("contexts/new", FORM | {"form_token": token.encode("utf-8", "replace").decode()}).status == 403
        )
    assert owner.post("contexts/new", FORM).status == 403
    assert made_contexts(live) == before
    assert owner.post("contexts/new", FORM | {"form_token": owner.form_token()}).status == 303
    assert len(made_contexts(live) - before) == 1


def test_other_methods_and_large_forms_are_refused(owner: Visitor) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert owner.send(method, f"{owner.prefix}/ask").status == 405, method
    assert owner.post("contexts/new", {"q": "x" * 600_000}).status == 413
    assert owner.get("contexts/new").status in (404, 405)


def test_every_response_forbids_frames_foreign_content_and_sniffing(owner: Visitor) -> None:
    paths = [owner.path("ask", q="keys"), *(f"{owner.prefix}/{screen}" for screen in SCREENS), "/", "/favicon.ico"]
    paths += [owner.path("file", path="missing"), owner.path("no-such-screen")]
    for path in paths:
        for cookie in (f"ctxfs={owner.cookie}", None):
            headers = owner.send("GET", path, {"Cookie": cookie}).headers
            policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
            assert policy["default-src"] == policy["script-src"] == policy["style-src"] == ["'self'"]
            assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"


@pytest.fixture
def private(live: Live) -> Path:
    """Return a file in the memory of agent:bob, which agent:alice may not read."""
    folder = live.at / "memory" / "bob"
    folder.mkdir(exist_ok=True)
    (folder / "private.md").write_text("# Private\n\nThe wombat lives in the cellar.\n")
    return folder / "private.md"


def test_an_agent_reads_what_it_may_and_changes_nothing(site: Site, live: Live, private: Path) -> None:
    token = live.run("token", "issue", "agent:alice").split()[-1]
    before = made_contexts(live)
    for arguments in (("--token", token), ("--as", "agent:alice")):
        agent = site.visitor(*arguments)
        page = agent.get("file")
        assert "agent:alice" in page.text
        assert "reads only" in page.text
        assert agent.get("file", path="memory/bob/private.md").status in (403, 404)
        assert "wombat" not in agent.get("ask", q="wombat in the cellar").main_text().replace(
            "wombat in the cellar", ""
        )
        assert agent.post("contexts/new", FORM | {"form_token": agent.form_token()}).status == 403
        assert agent.get("ask", **{"as": "human:root"}).status == 400, "it cannot view as another principal"
    assert made_contexts(live) == before


def test_a_revoked_token_ends_its_session(site: Site, live: Live) -> None:
    token = live.run("token", "issue", "agent:carol").split()[-1]
    agent = site.visitor("--token", token)
    live.run("token", "revoke", "agent:carol")
    eventually("the session ends", lambda: agent.get("file").status == 401)


def test_an_invalid_token_gets_no_address(site: Site, live: Live) -> None:
    done = live.try_run("web", "--no-open", "--token", "ctxfs_nonsense")
    assert done.returncode != 0
    assert "http" not in done.stdout


def test_the_owner_views_as_an_agent_and_changes_nothing(owner: Visitor, live: Live, private: Path) -> None:
    assert "cellar" in owner.get("file", path="memory/bob/private.md").main_text()
    answer = owner.get("file", path="memory/bob/private.md", **{"as": "agent:alice"})
    assert answer.status in (403, 404)
    page = owner.get("file", **{"as": "agent:alice"})
    assert "viewing as" in page.text
    assert all(
        "as=agent%3Aalice" in e.attributes["href"] for e in page.elements("a") if "/file?" in e.attributes["href"]
    )
    before = made_contexts(live)
    fields = FORM | {"form_token": owner.form_token()}
    assert owner.post("contexts/new?as=agent%3Aalice", fields).status == 403
    assert made_contexts(live) == before


def test_a_second_call_prints_an_address_of_the_same_page(site: Site, live: Live) -> None:
    first, second = site.visitor(), site.visitor()
    assert (first.port, first.prefix) == (second.port, second.prefix)
    assert first.cookie != second.cookie
    assert first.get("ask").status == second.get("ask").status == 200


def test_a_page_that_was_killed_is_followed_by_another(own_live: Live) -> None:
    site = Site(own_live)
    old = site.visitor()
    os.kill(site.process.pid, signal.SIGKILL)
    site.close()
    with running(own_live) as again:
        visitor = again.visitor()
        assert visitor.get("ask").status == 200
        visitor.cookie = old.cookie
        assert visitor.get("ask").status == 401, "sessions end with their page"


def test_a_port_in_use_is_an_error_with_a_remedy(own_live: Live) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = own_live.try_run("web", "--no-open", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 5
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_survives_the_end_of_its_daemon(own_live: Live) -> None:
    with running(own_live) as site:
        visitor = site.visitor()
        assert visitor.get("file").status == 200
        own_live.run("unmount", "--all")
        away = visitor.get("file")
        assert away.status == 503
        assert "daemon" in away.text
        own_live.run("mount", str(own_live.at))
        assert visitor.get("file").status == 200


def test_the_process_ends_with_open_connections(own_live: Live) -> None:
    site = Site(own_live)
    visitor = site.visitor()
    with socket.create_connection(("127.0.0.1", visitor.port), timeout=BOUND):
        site.close()
    assert site.process.returncode == 0
