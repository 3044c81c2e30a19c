"""Test the law: lawful changes lose no sentence, and decisions of people stay."""

from collections.abc import Sequence

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from ctxfs.consolidation.law import find_violations, is_active, names_in, require_lawful
from ctxfs.consolidation.text_units import units_of
from ctxfs.versions.proposals import FileChange, FileState

SENTENCES = [
    "Keys are rotated every 90 days.",
    "The port is 8080.",
    "Ada owns the runbook.",
    "Rollback uses the previous tag.",
    "Überprüfe die Sicherung täglich.",
]
PATHS = [f"memory/alice/fact/{name}.md" for name in "abcd"]


def file(text: str, **labels: str) -> FileState:
    return FileState(text.encode(), {f"user.ctx.{name}": value.encode() for name, value in labels.items()})


def change(path: str, before: FileState | None, after: FileState | None) -> FileChange:
    return FileChange(path, before, after)


def reasons(*changes: FileChange) -> list[str]:
    return [reason for _, reason in find_violations(changes)]


@st.composite
def files(draw: st.DrawFn) -> FileState:
    lines = draw(st.lists(st.sampled_from(SENTENCES), max_size=3))
    joined = draw(st.sampled_from(["\n", "\n\n", " ", "\n- "])).join(lines)
    labels = {}
    if (state := draw(st.sampled_from(["", "", "active", "archived", "merged", "frozen", "generated"]))) != "":
        labels["state"] = state
    if (named := draw(st.lists(st.sampled_from(PATHS), max_size=2))) != []:
        labels[draw(st.sampled_from(["covers", "supersedes"]))] = "\n".join(named)
    if draw(st.integers(0, 9)) == 0:
        labels["frozen"] = "true"
    return file(joined, **labels)


@st.composite
def proposals(draw: st.DrawFn) -> list[FileChange]:
    """Draw changes of the kinds that proposals have, some of which lose sentences, among any others."""
    drawn = []
    for path in draw(st.lists(st.sampled_from(PATHS), unique=True, max_size=4)):
        before, after = draw(st.none() | files()), draw(st.none() | files())
        if before is not None and draw(st.integers(0, 3)):
            added = draw(st.sampled_from(["", "", SENTENCES[0], SENTENCES[1]]))
            labels = draw(files()).attributes
            kept = {name: value for name, value in labels.items() if name != "user.ctx.frozen"}
            after = FileState(before.data + added.encode(), {**before.attributes, **kept})
        if before != after:
            drawn.append(FileChange(path, before, after))
    return drawn


def reachable(proposal: Sequence[FileChange]) -> set[str]:
    """Return the paths that chains of names reach from a file that is active afterwards, or that is new."""
    after = {item.path: item.after for item in proposal if item.after is not None}
    ends = {item.path for item in proposal if item.after is not None and (item.before is None or is_active(item.after))}
    grown, size = set(ends), -1
    while size != len(grown):
        size = len(grown)
        grown |= {name for path in grown for name in names_in(after[path].attributes) if name in after}
    return grown


@given(proposals())
def test_lawful_changes_lose_no_sentence(proposal: list[FileChange]) -> None:
    if list(find_violations(proposal)):
        event("refused")
        return
    event("lawful" if proposal else "empty")
    after = {item.path: item.after for item in proposal if item.after is not None}
    kept = {unit for path in reachable(proposal) for unit in units_of(after[path].data)}
    for item in proposal:
        if item.before is not None and is_active(item.before):
            assert units_of(item.before.data) <= kept
            assert item.before.attributes.get("user.ctx.frozen") != b"true"
            assert item.path in after


@given(st.lists(files(), min_size=1, max_size=4))
def test_archiving_files_that_one_new_file_names_is_lawful(states: list[FileState]) -> None:
    """Not every change is refused: this one is always possible."""
    movable = [state for state in states if is_active(state) and b"frozen" not in str(state.attributes).encode()]
    paths = PATHS[: len(movable)]
    proposal = [
        change(path, state, FileState(state.data, {**state.attributes, "user.ctx.state": b"archived"}))
        for path, state in zip(paths, movable, strict=True)
    ]
    note = file("What was archived, and why.", state="archived", covers="\n".join(paths) or "memory/alice/fact/none.md")
    assert reasons(*proposal, change("memory/alice/archive/note.md", None, note)) == []


def test_two_files_that_name_each_other_do_not_keep_each_other() -> None:
    one, two = file(SENTENCES[0], supersedes=PATHS[1]), file(SENTENCES[1], supersedes=PATHS[0])
    gone = [FileState(item.data, {**item.attributes, "user.ctx.state": b"archived"}) for item in (one, two)]
    violations = reasons(change(PATHS[0], one, gone[0]), change(PATHS[1], two, gone[1]))
    assert len([reason for reason in violations if "no `supersedes` or `covers`" in reason]) == 2


@pytest.mark.parametrize(
    ("path", "before", "after", "reason"),
    [
        (PATHS[0], file(SENTENCES[0]), None, "removes no file"),
        (PATHS[0], file(SENTENCES[0]), file(SENTENCES[1]), "would be lost: 'Keys are rotated every 90 days.'"),
        (PATHS[0], file(SENTENCES[0]), file(SENTENCES[0], state="archived"), "no `supersedes` or `covers`"),
        (PATHS[0], file("a b.", frozen="true"), file("a b. c d.", frozen="true"), "frozen"),
        (PATHS[0], file("a b.", state="frozen"), file("a b."), "frozen"),
        (PATHS[0], file("a b.", trust="untrusted"), file("a b."), "does not change user.ctx.trust"),
        (PATHS[0], file("a b.", source="x.md:1"), file("a b."), "does not change user.ctx.source"),
        (PATHS[0], None, file("a b.", trust="trusted"), "only people raise trust"),
        (PATHS[0], None, file("a b.", quarantined="true"), "only people freeze"),
        ("knowledge/docs/a.md", file("a b."), file("a b. c d."), "memory only"),
        ("human/review/x/verdict", None, file("accept"), "memory only"),
        ("memory/a.md", None, file("a b."), "memory only"),
    ],
)
def test_forbidden_change_is_refused_with_its_reason(
    path: str, before: FileState | None, after: FileState | None, reason: str
) -> None:
    assert any(reason in violation for violation in reasons(change(path, before, after)))
    with pytest.raises(PermissionError):
        require_lawful([change(path, before, after)])


def test_units_are_the_same_in_lists_headings_and_wrapped_lines() -> None:
    plain = units_of(b"The port is 8080. Ada owns\nthe runbook.\n")
    assert plain == {"The port is 8080.", "Ada owns the runbook."}
    assert units_of(b"# The port is 8080.\n\n> - Ada owns the runbook.\n") == plain
    assert units_of(b"| key | value |\n|---|---|\n| port | 8080 |\n") == {"| key | value |", "| port | 8080 |"}
    assert units_of(b"```\nx = 1\ny = 2\n```\n") != units_of(b"```\nx = 1\n```\n")


@given(st.text(max_size=300))
def test_every_letter_of_a_text_is_in_a_unit(text: str) -> None:
    letters = "".join(character for character in text if character.isalpha())
    data = text.encode("utf-8", "surrogatepass")
    units = units_of(data)
    if len(units) == 1 and data.hex() in units:
        return
    assert set(letters) <= {character for unit in units for character in unit}
