"""Test the screen of access: rights by the policy itself, tokens, refused operations, and the rules with their checker."""

import json
import os
from collections.abc import Iterator

import pytest

from tests.live import Live, eventually
from tests.web.hostile import SCRIPT, check_inert
from tests.web.site import Site, Visitor

RULES = '[[rule]]\nprincipal = "agent:carol"\npath = "memory/shared/**"\nverbs = "rw"\n'


@pytest.fixture
def rules(live: Live) -> Iterator[str]:
    file = live.at / ".ctxfs" / "policy.toml"
    before = file.read_bytes()
    yield str(file)
    file.write_bytes(before)


def edit(owner: Visitor, text: str, do: str) -> "tuple[int, str]":
    page = owner.get("access/policy")
    base = next(e.attributes["value"] for e in page.elements("input") if e.attributes.get("name") == "base")
    fields = {"form_token": owner.form_token(), "base": base, "text": text.replace("\n", "\r\n"), "do": do}
    answer = owner.post("access/policy", fields)
    return answer.status, answer.main_text() if answer.status != 303 else ""


def test_rights_are_those_of_the_policy(owner: Visitor, live: Live) -> None:
    (live.at / "memory" / "alice").mkdir(exist_ok=True)
    page = owner.get("access")
    paths = [e.text for e in page.elements("th")]
    assert {"agent:alice", "memory", "memory/shared", "knowledge", "pad"} <= set(paths)
    matrix = json.loads(
        live.run("policy", "matrix", "--principal", "agent:alice", "memory/alice", "memory/bob", "memory", "--json")
    )
    letters = [cell["letters"] for cell in matrix["rights"][0]]
    assert letters == ["rw", "", ""]
    assert matrix["rights"][0][2]["leads"]
    for path, cell in zip(matrix["paths"], matrix["rights"][0], strict=True):
        assert (live.try_run("policy", "check", "agent:alice", "read", path).returncode == 0) == (
            "r" in cell["letters"]
        )
    assert "memory/alice" in live.run("policy", "matrix", "memory/alice")
    link = next(e for e in page.elements("a") if "explain" in e.attributes["href"] and "alice" in e.attributes["href"])
    explained = owner.send("GET", link.attributes["href"])
    assert explained.main_text().count("allowed") + explained.main_text().count("denied") >= 8
    assert "agent:*" in owner.get("access/explain", principal="agent:alice", path="memory/alice").main_text()
    assert owner.get("access/explain", principal="nobody", path="memory").status == 400


def test_token_is_shown_once_limits_its_bearer_and_is_revoked(owner: Visitor, site: Site, live: Live) -> None:
    fields = {"form_token": owner.form_token(), "principal": "agent:alice", "ttl": "1h", "allow": "knowledge/**:r\r\n"}
    issued = owner.post("access/issue", fields)
    (secret,) = [e.text for e in issued.elements("code") if e.text.startswith("ctx_")]
    number = json.loads(live.run("token", "list", "--json"))[-1]["id"]
    assert secret not in owner.get("access").text
    assert f"agent:alice#{number}" in [e.text for e in owner.get("access").elements("th")]
    bearer = site.visitor("--token", secret)
    assert bearer.get("file", path="knowledge").status == 200
    assert bearer.get("access").status == 403
    assert owner.post("access/revoke", {"form_token": owner.form_token(), "named": number}).status == 303
    assert number not in owner.get("access").main_text()
    eventually("the bearer is out", lambda: bearer.get("file", path="knowledge").status == 401)
    assert owner.post("access/issue", {**fields, "ttl": "100y"}).status == 400
    assert owner.post("access/issue", {**fields, "principal": "root"}).status == 400


def test_refused_operations_are_listed(owner: Visitor, site: Site, live: Live) -> None:
    assert site.visitor("--as", "agent:mallory").get("time", path="memory").status == 200
    page = eventually("refused", lambda: "agent:mallory" in (a := owner.get("access")).main_text() and a)
    assert [e for e in page.elements("li") if "EACCES" in e.text]


def test_rules_are_checked_before_they_are_saved(owner: Visitor, live: Live, rules: str) -> None:
    with open(rules) as file:
        before = file.read()
    status, text = edit(owner, before + RULES.replace('"rw"', '"q"'), "save")
    assert (status, "nothing was saved" in text, "not verbs" in text) == (200, True, True)
    status, text = edit(owner, before + RULES, "check")
    assert (status, "not saved yet" in text) == (200, True)
    with open(rules) as file:
        assert file.read() == before
    assert live.try_run("policy", "check", "agent:carol", "write", "memory/shared/x").returncode == 1
    assert edit(owner, before + RULES, "save")[0] == 303
    eventually(
        "the rule holds",
        lambda: not live.try_run("policy", "check", "agent:carol", "write", "memory/shared/x").returncode,
    )
    assert "in force" in owner.get("access/policy", saved=1).main_text()


def test_rules_that_changed_meanwhile_are_not_replaced(owner: Visitor, live: Live, rules: str) -> None:
    base = next(
        e.attributes["value"]
        for e in owner.get("access/policy").elements("input")
        if e.attributes.get("name") == "base"
    )
    with open(rules, "a") as file:
        file.write("# by another\n")
    for sent in (base, ""):
        fields = {"form_token": owner.form_token(), "base": sent, "text": RULES, "do": "save"}
        assert owner.post("access/policy", fields).status == 409
    with open(rules) as file:
        assert "# by another" in file.read()


def test_command_finds_the_first_mistake(live: Live, tmp_path: os.PathLike[str]) -> None:
    assert "no mistake" in live.try_run("policy", "validate", input=RULES).stdout
    for wrong in ("[[rule]\n", '[[rule]]\nprincipal = "x"\npath = "y"\nverbs = "r"\n', "[settings]\n"):
        done = live.try_run("policy", "validate", input=wrong)
        assert done.returncode == 1
        assert "policy.toml" in done.stderr


def test_hostile_rules_are_inert(owner: Visitor, live: Live, rules: str) -> None:
    hostile = f'</textarea>{SCRIPT}[[rule]]\npath = "{SCRIPT}"\n'
    page = owner.post("access/policy", {"form_token": owner.form_token(), "base": "", "text": hostile, "do": "check"})
    assert page.elements("textarea")[0].text.strip("\n") == hostile.strip("\n")
    check_inert(page)
    with open(rules, "a") as file:
        file.write("# \u202e hidden\n")
    page = owner.get("access/policy")
    check_inert(page)
    assert not page.elements("textarea"), "a form would save the escapes"
    check_inert(owner.get("access/explain", principal="agent:alice", path=f"memory/{SCRIPT}"))


def test_an_agent_gets_nothing_of_it(site: Site) -> None:
    agent = site.visitor("--as", "agent:alice")
    for screen in ("access", "access/policy", "access/explain?principal=agent:alice&path=memory"):
        assert agent.send("GET", f"{agent.prefix}/{screen}").status in (403, 404)
    fields = {"form_token": agent.form_token(), "principal": "agent:alice", "ttl": "never", "text": "", "named": "x"}
    for screen in ("access/issue", "access/revoke", "access/policy"):
        assert agent.post(screen, fields).status == 403
