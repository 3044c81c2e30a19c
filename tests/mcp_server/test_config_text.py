"""Test that an entry is added to the settings of a client, and removed, and that everything else stays."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.cli.mcp import _CLIENTS
from ctxfs.mcp_server.client_config import CLIENTS, entry_of, install, uninstall
from ctxfs.mcp_server.config_text import ConfigTextError, Form, put_entry, read_document, remove_entry
from ctxfs.model.errors import CommandError

# Settings as people keep them: comments, other servers, odd spacing, values of every kind.
SAMPLES = {file.stem: file.read_text() for file in (Path(__file__).parent / "client_settings").iterdir()}
ENTRY = {"command": "/usr/bin/ctxfs", "args": ["--store", "/ü", "mcp"]}


def entry_for(client: str) -> dict[str, Any]:
    return entry_of(CLIENTS[client], Path("/s"), f"agent:{client}")


def test_command_line_offers_every_client() -> None:
    assert list(_CLIENTS) == list(CLIENTS)
    assert set(SAMPLES) == set(CLIENTS)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("client", CLIENTS)
def test_only_the_entry_is_new_and_removal_restores_every_byte(client: str, line_end: str, tmp_path: Path) -> None:
    configuration, file = CLIENTS[client], tmp_path / "settings"
    before = SAMPLES[client].replace("\n", line_end).encode()
    file.write_bytes(before)
    file.chmod(0o600)
    assert install(configuration, file, "ctxfs", entry_for(client))
    after = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert is_insertion(before.decode(), after.decode()), after.decode()
    settings = read_document(configuration.form, after.decode())
    entry = settings[configuration.table].pop("ctxfs")
    assert entry == entry_for(client)
    assert settings == read_document(configuration.form, before.decode())
    assert not install(configuration, file, "ctxfs", entry_for(client))
    assert file.read_bytes() == after
    assert uninstall(configuration, file, "ctxfs")
    assert file.read_bytes() == before
    assert not uninstall(configuration, file, "ctxfs")


def is_insertion(before: str, after: str) -> bool:
    """Return True if a text is another one with one run of characters added, and a comma before it at most."""
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    rest = before[start:]
    return after.endswith(rest) or (after[start:].startswith(",") and after.endswith(rest.lstrip(",")))


@pytest.mark.parametrize("client", CLIENTS)
def test_removal_after_other_changes_takes_the_entry_alone(client: str, tmp_path: Path) -> None:
    configuration, file = CLIENTS[client], tmp_path / "settings"
    file.write_text(SAMPLES[client])
    install(configuration, file, "ctxfs", entry_for(client))
    with_other = put_entry(configuration.form, file.read_text(), (configuration.table,), "later", {"command": "l"})
    file.write_text(with_other)
    assert uninstall(configuration, file, "ctxfs")
    expected = read_document(configuration.form, SAMPLES[client])
    expected[configuration.table]["later"] = {"command": "l"}
    assert read_document(configuration.form, file.read_text()) == expected
    assert comments_of(file.read_text()) == comments_of(SAMPLES[client])


def comments_of(text: str) -> list[str]:
    return sorted(re.findall(r"(?:(?<=\s)|^)(?:#|//)[^\n]*|/\*.*?\*/", text, re.MULTILINE))


@pytest.mark.parametrize("client", CLIENTS)
def test_file_is_made_and_emptied_again(client: str, tmp_path: Path) -> None:
    configuration, file = CLIENTS[client], tmp_path / "deep" / "er" / "settings"
    assert install(configuration, file, "ctxfs", entry_for(client))
    assert read_document(configuration.form, file.read_text()) == {configuration.table: {"ctxfs": entry_for(client)}}
    assert uninstall(configuration, file, "ctxfs")
    assert read_document(configuration.form, file.read_text()) == {}


@pytest.mark.parametrize("client", CLIENTS)
def test_members_that_a_person_added_to_the_entry_stay(client: str, tmp_path: Path) -> None:
    configuration, file = CLIENTS[client], tmp_path / "settings"
    text = put_entry(
        configuration.form, SAMPLES[client], (configuration.table,), "ctxfs", {"autoApprove": ["ctx_read"]}
    )
    file.write_text(text)
    assert install(configuration, file, "ctxfs", entry_for(client))
    entry = read_document(configuration.form, file.read_text())[configuration.table]["ctxfs"]
    assert entry == {"autoApprove": ["ctx_read"], **entry_for(client)}
    assert not install(configuration, file, "ctxfs", entry_for(client))


BROKEN: Mapping[Form, list[str]] = {
    "json": ["{", '{"mcpServers": []}', '{"mcpServers": {"ctxfs": 1}}', "[]", '{"a": 1} x', '{"a": 1,}', "{} // c"],
    "jsonc": ["{", '{"servers": 3}', "[1]", '{"servers": {}, "servers": {}}', "// only", '{"a": ' * 300],
    "toml": ["= 3", "mcp_servers = 3", "[mcp_servers\n"],
    "yaml": [
        "extensions: [a",
        "extensions: 3\n",
        "- a\n",
        "a: &x {b: 1}\nextensions: *x\n",
        "extensions: {}\nextensions: {}\n",
        "a: 1\n---\nb: 2\n",
        "a: 1\n...\n",
        "? [a]\n: 1\n",
        "extensions:\n\ta: 1\n",
        "x: " + "[" * 5000,
    ],
}


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in BROKEN.items() for text in texts])
def test_file_that_cannot_be_edited_stays_and_the_error_has_the_entry(form: Form, text: str, tmp_path: Path) -> None:
    configuration = next(client for client in CLIENTS.values() if client.form == form)
    file = tmp_path / "settings"
    file.write_text(text)
    with pytest.raises(CommandError, match="nothing was changed") as error:
        install(configuration, file, "ctxfs", entry_for(configuration.name))
    assert "/s" in error.value.remedy
    assert file.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("extensions:\n", "extensions:\n  n:\n    a: 1\n"),
        ("extensions:", "extensions:\n  n:\n    a: 1\n"),
        ("extensions: {}\nb: 1\n", 'extensions: {"n": {"a": 1}}\nb: 1\n'),
        ("extensions: {x: {y: 1}} # c\n", 'extensions: {"n": {"a": 1}, x: {y: 1}} # c\n'),
        ("extensions: null # c\n", 'extensions: {"n": {"a": 1}} # c\n'),
        ("# c\n", "# c\nextensions:\n  n:\n    a: 1\n"),
        ("---\nb: 1", "---\nb: 1\nextensions:\n  n:\n    a: 1\n"),
        ("{b: 1}\n", '{"extensions": {"n": {"a": 1}}, b: 1}\n'),
        ("extensions:\n      x:\n        y: 1\n", "extensions:\n      n:\n        a: 1\n      x:\n        y: 1\n"),
    ],
)
def test_each_form_of_a_yaml_table_gets_the_entry_in_its_form(before: str, after: str) -> None:
    assert put_entry("yaml", before, ("extensions",), "n", {"a": 1}) == after


def test_last_entry_of_a_block_leaves_a_table_that_the_client_can_read() -> None:
    text = "extensions: # all\n  # ours\n  n:\n    a: 1\nb: 2\n"
    assert remove_entry("yaml", text, ("extensions",), "n", has_table=True) == "extensions: {} # all\n  # ours\nb: 2\n"


def test_entry_goes_where_the_later_form_of_opencode_reads_it() -> None:
    client = CLIENTS["opencode"]
    assert client.table_of({"mcp": {"servers": {"a": {"type": "local"}}}}) == ("mcp", "servers")
    assert client.table_of({"mcp": {"servers": {"type": "local", "command": ["x"]}}}) == ("mcp",)
    text = put_entry("jsonc", '{"mcp": {"servers": {}}}', ("mcp", "servers"), "n", {"a": 1})
    assert json.loads(text) == {"mcp": {"servers": {"n": {"a": 1}}}}


ALPHABET = "aZ09_ -:#/'\"\\{}[],&*!|>%@`?=~\u00e9\u6f22\U0001f600\ufeff"
NAMES = st.text(ALPHABET, min_size=1, max_size=8)
LEAVES = st.none() | st.booleans() | st.integers(-9, 9**9) | NAMES
VALUES = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3), max_leaves=12)
SERVERS = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3)
DOCUMENTS = st.builds(
    lambda head, servers, tail: {**head, **({} if servers is None else {"t": servers}), **tail},
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.none() | SERVERS,
    st.dictionaries(NAMES, VALUES, max_size=3),
).filter(lambda document: document.get("t") is None or isinstance(document["t"], dict))


def with_comments(lines: list[str], choices: list[bool], mark: str) -> str:
    """Return the lines, with a comment of its own after some of them."""
    noted = zip(lines, [*choices, *[False] * len(lines)], strict=False)
    return "\n".join(f"{line} {mark} c{number}" if noted else line for number, (line, noted) in enumerate(noted))


@settings(deadline=None)  # a loaded machine
@given(DOCUMENTS, st.sampled_from([None, 1, 2, "\t"]), st.lists(st.booleans(), max_size=20))
def test_any_json_keeps_what_it_has(document: dict[str, Any], indent: int | str | None, choices: list[bool]) -> None:
    lines = json.dumps(document, indent=indent, ensure_ascii=False).split("\n")
    check_form("jsonc", with_comments(lines, choices, "//") + "\n", "//")


@settings(deadline=None)  # a loaded machine
@given(DOCUMENTS, st.sampled_from([2, 4]), st.sampled_from([True, False, None]), st.lists(st.booleans(), max_size=20))
def test_any_yaml_keeps_what_it_has(
    document: dict[str, Any], indent: int, is_flow: bool | None, choices: list[bool]
) -> None:
    text = yaml.safe_dump(document, indent=indent, default_flow_style=is_flow, allow_unicode=True, width=10_000)
    check_form("yaml", with_comments(text.rstrip("\n").split("\n"), choices if not is_flow else [], "#") + "\n", "#")


def check_form(form: Form, text: str, mark: str) -> None:
    before = read_document(form, text)
    former = (before.get("t") or {}).get("ctxfs")
    if former is not None:
        return
    after = put_entry(form, text, ("t",), "ctxfs", ENTRY)
    assert read_document(form, after) == {**before, "t": {**(before.get("t") or {}), "ctxfs": ENTRY}}
    assert re.findall(rf"{mark} c\d+$", after, re.MULTILINE) == re.findall(rf"{mark} c\d+$", text, re.MULTILINE)
    removed = remove_entry(form, after, ("t",), "ctxfs", has_table="t" in before)
    expected = {**before, "t": before["t"] or {}} if "t" in before else before
    assert read_document(form, removed) == expected
    assert re.findall(rf"{mark} c\d+$", removed, re.MULTILINE) == re.findall(rf"{mark} c\d+$", text, re.MULTILINE)


@settings(deadline=None)  # a loaded machine
@given(st.text(ALPHABET + "\n\t\r\x00", max_size=60), st.sampled_from(["json", "jsonc", "toml", "yaml"]))
def test_any_text_is_edited_or_refused(text: str, form: Form) -> None:
    try:
        after = put_entry(form, text, ("t",), "ctxfs", ENTRY)
    except ConfigTextError:
        return
    assert read_document(form, after)["t"]["ctxfs"] == ENTRY
