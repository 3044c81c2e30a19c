"""Test procedures from repeated experiences: every line cites the experiences that it is from."""

import re

from ctxfs.context.skills import parse_skill
from ctxfs.model.path import Path
from tests.consolidation.conftest import Store

FOLDER = "memory/alice/experiential"
TEXT = "Situation: {situation}\nAction: {action}\nOutcome: {outcome}\n"
SITUATION = "The build fails because the cache is stale."
ACTION = "Delete the folder build and run make."


def write(
    store: Store, name: str, situation: str = SITUATION, action: str = ACTION, outcome: str = "The build passes."
) -> None:
    store.write(f"{FOLDER}/{name}.md", TEXT.format(situation=situation, action=action, outcome=outcome))


def proposed(store: Store) -> list[str]:
    result = store.call("consolidate", path=FOLDER)
    return [proposal["id"] for proposal in result["proposals"] if proposal["rule"] == "procedure"]


def test_three_experiences_become_a_skill_whose_lines_are_cited(store: Store) -> None:
    write(store, "a")
    write(store, "b", outcome="All tests of the build pass now.")
    assert proposed(store) == []
    write(store, "c", action="Delete the directory build and run make.", outcome="It works again.")
    (name,) = proposed(store)
    store.call("decide", id=name, verdict="accept")
    (folder,) = (store.tree / "memory/alice/procedural/skills").iterdir()
    text = (folder / "SKILL.md").read_text()
    skill = parse_skill(Path(("skills", folder.name)), text.encode())
    assert skill.fault == "" and "cache is stale" in skill.description
    body = [line for line in text.split("---\n", 2)[2].splitlines() if line.strip()]
    assert len(body) >= 3 and all(re.search(r"\[memory/alice/experiential/[abc]\.md:\d+\]$", line) for line in body)
    assert store.label(str((folder / "SKILL.md").relative_to(store.tree)), "state") == "generated"
    assert proposed(store) == []


def test_failed_and_different_experiences_make_no_procedure(store: Store) -> None:
    write(store, "a")
    write(store, "b", outcome="The build failed again.")
    write(store, "c", outcome="It passes.")
    write(store, "d", situation="The printer is offline on the second floor.")
    store.write(f"{FOLDER}/e.md", "Only a note without fields.\n")
    assert proposed(store) == []
