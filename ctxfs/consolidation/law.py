"""The law of consolidation: no sentence is lost, and nothing that a person has decided is changed. Pure.

Each sentence that leaves active memory must be found in an archived or merged file that the `supersedes` or `covers` of
a file that stays names. `require_lawful` is called when a proposal is made and when it is accepted, on the result of
the merge; no other code decides this.
"""

from collections.abc import Iterator, Mapping, Sequence

from ctxfs.consolidation.text_units import units_of
from ctxfs.memory.states import RETIRED, is_frozen, state_of
from ctxfs.model.errors import not_permitted
from ctxfs.model.metadata import PERSON_ONLY, PREFIX
from ctxfs.model.path import printable
from ctxfs.versions.proposals import FileChange, FileState

STATE, COVERS, SUPERSEDES = (f"{PREFIX}{name}" for name in ("state", "covers", "supersedes"))
_TRUST = f"{PREFIX}trust"
# The attributes that a proposal may change on a file that exists.
_LIFE_CYCLE = frozenset((STATE, COVERS, SUPERSEDES, f"{PREFIX}valid_until"))
_MIN_DEPTH = 3  # memory/<agent>/<file>


def require_lawful(changes: Sequence[FileChange]) -> None:
    """Raise OSError EPERM, with the path and the reason, for changes that the law forbids."""
    for path, reason in find_violations(changes):
        raise not_permitted(path, reason)


def find_violations(changes: Sequence[FileChange]) -> Iterator[tuple[str, str]]:
    """Yield (path, reason) of each violation of the law."""
    for change in changes:
        yield from ((change.path, reason) for reason in _find_forbidden(change))
    named = _named_by_staying_files(changes)
    kept: set[str] = set()
    for change in changes:
        if change.after is not None and (is_active(change.after) or change.path in named):
            kept |= units_of(change.after.data)
    for change in changes:
        yield from ((change.path, reason) for reason in _find_losses(change, named, kept))


def is_active(file: FileState) -> bool:
    """Return True for a file in search and contexts."""
    return state_of(file.attributes) not in RETIRED


def names_in(attributes: Mapping[str, bytes]) -> list[str]:
    """Return the paths that `supersedes` and `covers` name."""
    lines = b"\n".join((attributes.get(COVERS, b""), attributes.get(SUPERSEDES, b""))).split(b"\n")
    return [line.decode("utf-8", "surrogateescape").strip().strip("/") for line in lines if line.strip()]


def _find_forbidden(change: FileChange) -> Iterator[str]:
    """Yield the reasons why a path may not be changed like this, apart from its sentences."""
    parts = change.path.split("/")
    if parts[0] != "memory" or len(parts) < _MIN_DEPTH:
        yield "a proposal changes files of memory only"
        return
    if not change.is_regular:
        yield "a proposal changes files only, no folders and no links"
        return
    before, after = change.before, change.after
    if after is None:
        yield "a proposal removes no file: it archives"
    elif before is None:
        yield from _find_forbidden_labels(after)
    else:
        yield from _find_forbidden_edits(before, after)


def _find_forbidden_labels(new: FileState) -> Iterator[str]:
    if is_frozen(new.attributes) or any(f"{PREFIX}{name}" in new.attributes for name in PERSON_ONLY - {"trust"}):
        yield "only people freeze a file or put it into quarantine"
    if new.attributes.get(_TRUST, b"untrusted") != b"untrusted":
        yield "only people raise trust"


def _find_forbidden_edits(before: FileState, after: FileState) -> Iterator[str]:
    if is_frozen(before.attributes):
        yield "it is frozen"
    if is_frozen(after.attributes):
        yield "only people freeze a file"
    for name in sorted(before.attributes.keys() | after.attributes.keys()):
        if before.attributes.get(name) != after.attributes.get(name) and name not in _LIFE_CYCLE:
            yield f"a proposal does not change {printable(name)}"
    if before.data != after.data and not (is_active(before) and is_active(after)):
        yield "a file that is archived or merged keeps its content"


def _named_by_staying_files(changes: Sequence[FileChange]) -> set[str]:
    """Return the paths that files name which do not leave active memory themselves, also through other such paths.

    Thus two files that name each other do not keep each other.
    """
    states = {change.path: change.after for change in changes if change.after is not None}
    pending = [change.path for change in changes if change.after is not None and not _is_leaving(change)]
    named = set[str]()
    while pending:
        for path in names_in(states[pending.pop()].attributes):
            if path in states and path not in named:
                named.add(path)
                pending.append(path)
    return named


def _is_leaving(change: FileChange) -> bool:
    """Return True for a file that exists, and that is archived or merged or was it before."""
    return change.before is not None and not (change.after is not None and is_active(change.after))


def _find_losses(change: FileChange, named: set[str], kept: set[str]) -> Iterator[str]:
    if change.before is None or not is_active(change.before) or change.after is None:
        return
    if not is_active(change.after) and change.path not in named:
        yield "it would leave active memory, and no `supersedes` or `covers` of a file that stays names it"
    lost = units_of(change.before.data) - units_of(change.after.data) - kept
    if lost:
        yield f"this would be lost: '{printable(min(lost, key=len))[:200]}'"
