"""Test the screen of memories: its table, its map, and its actions on one file and on many."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from ctxfs.web.form_paths import chosen_paths, decode_path, encode_path
from ctxfs.web.treemap import HEIGHT, WIDTH, Box, Leaf, lay_out, squarify
from tests.live import Live
from tests.web.hostile import check_inert, write_hostile_files
from tests.web.site import Answer, Site, Visitor

FOLDER = "memory/curated/fact"


def write(live: Live, name: str, text: str = "Tokens expire after 30 days.\n", **labels: str) -> str:
    """Write a memory through the mount, and return its path."""
    file = live.at / FOLDER / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    for label, value in labels.items():
        os.setxattr(file, f"user.ctx.{label}", value.encode())
    return f"{FOLDER}/{name}"


def act(visitor: Visitor, action: str, *paths: str, **fields: str) -> Answer:
    """Do an action to files, as the form of the table does."""
    chosen = {f"file{number}": quote(os.fsencode(path)) for number, path in enumerate(paths)}
    return visitor.post("memory/act", {"form_token": visitor.form_token(), "action": action, **chosen, **fields})


def label(live: Live, path: str, name: str) -> str:
    """Return an attribute of a file; empty without it."""
    try:
        return os.getxattr(live.at / path, f"user.ctx.{name}").decode()
    except OSError:
        return ""


def token(visitor: Visitor, **fields: str) -> Mapping[str, str]:
    return {"form_token": visitor.form_token(), **fields}


def test_table_shows_memories_by_agent_and_kind_with_filters(owner: Visitor, live: Live) -> None:
    write(live, "shown.md", "Wombats dig.\n", confidence="0.9", trust="untrusted", source="https://example.org/w")
    write(live, "other.md", "Herons fish.\n")
    page = owner.get("memory", agent="curated", words="wombats")
    (row,) = [e.text for e in page.elements("tr") if "Wombats" in e.text]
    for part in ("0.9", "untrusted", "https://example.org/w", "active", f"{FOLDER}/shown.md"):
        assert part in row
    assert "Herons" not in page.main_text()
    assert "curated · fact" in page.main_text()
    assert "Herons" in owner.get("memory", agent="curated", trust="normal").main_text()
    assert "No memory matches" in owner.get("memory", words="no-such-word").main_text()
    assert owner.get("memory", state="nonsense").status == 400


def test_source_that_changed_is_shown(owner: Visitor, live: Live) -> None:
    source = write(live, "source.md", "# Policy\n\nBadgers sleep through the day in their setts below the hill.\n")
    path = write(live, "cites.md", "Badgers sleep by day.\n")
    live.run("cite", path, f"{source}:3")
    assert "holds" in owner.get("memory", words="badgers cites.md").main_text()
    (live.at / source).write_text("# Policy\n\nBadgers are awake all day, and nobody has ever seen a sett.\n")
    assert "Badgers sleep by day" in owner.get("memory", holds="broken").main_text()


@pytest.mark.parametrize(
    ("action", "back", "name", "value"),
    [
        ("archive", "activate", "state", "archived"),
        ("freeze", "activate", "state", "frozen"),
        ("quarantine", "release", "quarantined", "true"),
        ("pin", "unpin", "pinned", "true"),
    ],
)
def test_many_files_are_changed_and_changed_back(
    owner: Visitor, live: Live, action: str, back: str, name: str, value: str
) -> None:
    paths = [write(live, f"{action}-{number}.md") for number in range(3)]
    answer = act(owner, action, *paths)
    assert "3 of 3 done" in answer.main_text()
    assert [label(live, path, name) for path in paths] == [value] * 3
    assert "3 of 3 done" in act(owner, back, *paths).main_text()
    assert label(live, paths[0], name) in ("active", "")


def test_reason_of_an_action_is_recorded_with_its_versions_only(owner: Visitor, live: Live) -> None:
    paths = [write(live, f"reasoned-{number}.md") for number in range(2)]
    assert "2 of 2 done" in act(owner, "pin", *paths, reason="the team asked for it").main_text()
    for path in paths:
        assert "the team asked for it" in live.run("log", path)
        assert "the team asked for it" in owner.get("time", path=path).main_text()
    assert "2 of 2 done" in act(owner, "unpin", *paths).main_text()
    newest, *older = json.loads(live.run("log", "--json", paths[0]))
    assert newest["reason"] == ""
    assert [entry["reason"] for entry in older] == ["the team asked for it", ""]
    form = {"path": quote(paths[0]), "text": "Edited.\n", "revision": "", "reason": "a slip"}
    revision = hashlib.sha256((live.at / paths[0]).read_bytes()).hexdigest()
    assert owner.post("memory/save", token(owner, **{**form, "revision": revision})).status == 200
    assert json.loads(live.run("log", "--json", paths[0]))[0]["reason"] == "a slip"
    assert "at most 1000 characters" in act(owner, "pin", paths[0], reason="x" * 1001).main_text()


def test_each_refusal_is_named_and_the_other_files_are_changed(owner: Visitor, live: Live) -> None:
    frozen, free = write(live, "solid.md", state="frozen"), write(live, "free.md")
    answer = act(owner, "pin", frozen, free, f"{FOLDER}/absent.md")
    assert "1 of 3 done" in answer.main_text()
    assert "frozen" in next(e.text for e in answer.elements("li") if "solid.md" in e.text)
    assert label(live, free, "pinned") == "true"
    assert act(owner, "pin").status == 400
    assert act(owner, "explode", free).status == 400
    act(owner, "activate", frozen)


def test_note_is_promoted_or_waits_for_a_review(owner: Visitor, live: Live) -> None:
    good = write(live, "good.md", "Otters hold hands.\n", source="https://example.org/o")
    answer = act(owner, "promote", good, to="memory/shared/fact")
    assert "moved to memory/shared/fact/good.md" in answer.main_text()
    poor = write(live, "poor.md", "Newts glow at night in the cellar.\n")
    assert "waits for a decision" in act(owner, "promote", poor, to="memory/shared/fact").main_text()


def test_text_is_edited_and_a_change_of_another_writer_is_not_lost(owner: Visitor, live: Live) -> None:
    path = write(live, "edited.md", "One.\r\nTwo.\r\n")
    page = owner.get("memory/edit", path=path)
    fields = {
        e.attributes["name"]: e.attributes.get("value", "") for e in page.elements("input") if "name" in e.attributes
    }
    assert "saved" in owner.post("memory/save", {**fields, "text": "One.\r\nThree.\r\n"}).main_text()
    assert (live.at / path).read_bytes() == b"One.\r\nThree.\r\n"
    conflict = owner.post("memory/save", {**fields, "text": "One.\r\nFour.\r\n"})
    assert conflict.status == 409
    assert "Four." in conflict.elements("textarea")[0].text
    assert (live.at / path).read_bytes() == b"One.\r\nThree.\r\n"


def test_file_that_a_form_would_damage_is_not_edited(owner: Visitor, live: Live) -> None:
    path = write(live, "odd.md", "A hidden \u202e turn.\n")
    answer = owner.get("memory/edit", path=path)
    assert (answer.status, "ctxfs edit" in answer.main_text()) == (400, True)


def test_line_is_corrected_by_a_file_that_supersedes(owner: Visitor, live: Live) -> None:
    path = write(live, "wrong.md", "# Seals\n\nSeals have 6 flippers.\n")
    page = owner.get("memory/correct", path=path, line=3)
    fields = {
        e.attributes["name"]: e.attributes.get("value", "") for e in page.elements("input") if "name" in e.attributes
    }
    answer = owner.post("memory/correction", {**fields, "text": "Seals have 4 flippers.", "because": "counted"})
    assert "corrects" in answer.main_text()
    (new,) = (live.at / FOLDER).glob("wrong-c*.md")
    assert "4 flippers" in new.read_text()
    assert "Because: counted" in new.read_text()


def test_erasure_names_the_remotes_first_and_needs_a_tick(owner: Visitor, live: Live, tmp_path: Path) -> None:
    path = write(live, "secret.md", "The otter sleeps under the old bridge.\n")
    live.run("commit")
    live.run("remote", "add", "attic", str(tmp_path / "attic.git"))
    try:
        page = act(owner, "forget", path)
        assert "attic" in page.main_text()
        assert path in page.main_text()
        assert (live.at / path).exists()
        fields = token(owner, file0=quote(path))
        assert owner.post("memory/forget", fields).status == 400
        assert (live.at / path).read_text()
        answer = owner.post("memory/forget", {**fields, "confirmed": "yes"})
        assert "1 of 1 done" in answer.main_text()
        assert "remote attic may still hold it" in answer.main_text()
        assert not (live.at / path).exists()
    finally:
        live.run("remote", "remove", "attic")


def test_map_has_a_tile_for_each_folder(owner: Visitor, live: Live) -> None:
    write(live, "mapped.md")
    for colour in ("age", "trust"):
        page = owner.get("memory/map", colour=colour)
        link = next(e for e in page.elements("a") if "of curated" in e.attributes.get("aria-label", ""))
        assert "tokens in" in link.attributes["aria-label"]
        assert "curated · fact" in owner.send("GET", link.attributes["href"]).main_text()


def test_long_table_comes_in_parts(owner: Visitor, live: Live) -> None:
    folder = live.at / "memory" / "crowd" / "fact"
    folder.mkdir(parents=True)
    for number in range(130):
        (folder / f"{number:03}.md").write_text(f"Gate {number}.\n")
    page = owner.get("memory", agent="crowd")
    assert len([e for e in page.elements("input") if e.attributes.get("type") == "checkbox"]) == 100
    later = owner.send("GET", page.link("later rows →"))
    assert "Gate 129." in later.main_text()
    assert len([e for e in later.elements("input") if e.attributes.get("type") == "checkbox"]) == 30


def test_agents_page_has_no_actions_and_no_files_of_others(site: Site, live: Live) -> None:
    own, other = write(live, "other-agent.md", "The otter sleeps.\n"), "memory/alice/fact/own.md"
    (live.at / "memory/alice/fact").mkdir(parents=True, exist_ok=True)
    (live.at / other).write_text("Alice has keys.\n")
    agent = site.visitor("--as", "agent:alice")
    page = agent.get("memory")
    assert "Alice has keys" in page.main_text()
    assert "otter" not in page.text
    assert "curated" not in page.text
    assert [e.attributes.get("type") for e in page.elements("input")].count("checkbox") == 0
    assert "action" not in [e.attributes.get("name") for e in page.elements("button")]
    assert "curated" not in agent.get("memory/map").text
    assert act(agent, "archive", other).status == 403
    assert agent.post("memory/save", token(agent, path=quote(other), text="x")).status == 403
    assert agent.get("memory/edit", path=own).status in (403, 404)
    assert label(live, other, "state") == ""


def test_hostile_memories_are_inert(owner: Visitor, live: Live) -> None:
    folder = write_hostile_files(live)
    os.setxattr(folder / "new\nline.md", "user.ctx.source", b"<script>alert(1)</script>")
    for screen in ("memory", "memory/map", "memory/map?colour=trust"):
        name, _, query = screen.partition("?")
        page = owner.get(name, **({"colour": "trust"} if query else {"agent": "mallory"}))
        assert page.status == 200
        check_inert(page)
    for file in folder.iterdir():
        path = f"memory/mallory/{file.name}"
        answer = act(owner, "pin", path)
        assert "1 of 1 done" in answer.main_text(), path
        check_inert(answer)
        check_inert(owner.get("memory/correct", path=path, line=1))
        check_inert(owner.get("memory/edit", path=path))
        check_inert(act(owner, "unpin", path))
    check_inert(act(owner, "<script>alert(1)</script>", "memory/mallory/x"))


def test_paths_survive_a_form() -> None:
    for path in (
        "memory/a/x.md",
        "memory/new\nline\r.md",
        os.fsdecode(b"memory/latin-\xe9\xff.md"),
        "memory/%41+&=#.md",
    ):
        assert decode_path(encode_path(path)) == path
    assert chosen_paths({"file0": "a", "file1": "a", "fileX": "b", "to": "c", "file12": "d"}) == ["a", "d"]


def test_rectangles_fill_their_box_by_their_amounts() -> None:
    boxes = squarify([60, 30, 10], Box(0, 0, 100, 50))
    assert [round(box.width * box.height / 50) for box in boxes] == [60, 30, 10]
    assert squarify([], Box(0, 0, 10, 10)) == []
    assert len(squarify([0, 0], Box(0, 0, 10, 10))) == 2
    leaves = [Leaf(f"folder {number}", number + 1.0, "age0", "", "") for number in range(50)]
    groups = lay_out({"alice": {"fact": leaves, "user": leaves[:3]}, "bob": {"fact": leaves[:1]}})
    tiles = [tile.box for group in groups for tile in group.tiles]
    assert len(tiles) == 54
    assert all(0 <= box.x <= box.x + box.width <= WIDTH + 1 for box in tiles)
    assert all(0 <= box.y <= box.y + box.height <= HEIGHT + 1 for box in tiles)
