"""What tools do with the tree, in single steps: plain functions over a door."""

import hashlib

from ctxfs.model.change import Change, MakeDir, Remove
from ctxfs.model.entry import Entry
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path
from ctxfs.rpc.wire import change_to_wire, entry_from_wire
from mcp_server.sessions import TreeSession

DIGITS = 12  # of the sha256 that names a revision


def revision_of(data: bytes) -> str:
    """By what an edit names the version that it was made from: the first digits of the sha256."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


async def read(door: TreeSession, path: Path) -> bytes:
    """A file."""
    data: bytes = await door.call("read", path=str(path))
    return data


async def read_labelled(door: TreeSession, path: Path) -> tuple[bytes, str]:
    """Return a file and what is shown beside its text: see `ctxfs.model.metadata.distrust_label`."""
    found = await door.call("read_labelled", path=str(path))
    return found["data"], str(found["label"])


async def stat(door: TreeSession, path: Path) -> Entry:
    """What is there."""
    return entry_from_wire(await door.call("stat", path=str(path)))


async def entries(door: TreeSession, path: Path) -> list[Entry]:
    """What is in a directory."""
    return [entry_from_wire(value) for value in await door.call("list", path=str(path))]


async def apply(door: TreeSession, change: Change) -> list[str]:
    """Make a change; what the tree warns of."""
    done = await door.call("apply", change=change_to_wire(change))
    return [str(warning) for warning in done["warnings"]]


async def make_parents(door: TreeSession, path: Path) -> None:
    """The directories above a file that are not there, below the area's own."""
    missing: list[Path] = []
    at = path.parent
    while len(at.parts) > 1:
        try:
            await stat(door, at)
            break
        except FileNotFoundError:
            missing.append(at)
            at = at.parent
    for each in reversed(missing):
        try:
            await apply(door, MakeDir(each))
        except FileExistsError:
            continue


async def delete_tree(door: TreeSession, path: Path) -> int:
    """Delete a directory and all that is below it, links as links; how many entries it had."""
    count, pending, directories = 0, [path], list[Path]()
    while pending:  # a stack: what agents make is deeper than the interpreter's frames
        at = pending.pop()
        directories.append(at)
        for entry in await entries(door, at):
            count += 1
            if entry.is_dir:
                pending.append(at / entry.name)
            else:
                await apply(door, Remove(at / entry.name))
    for at in reversed(directories):
        await apply(door, Remove(at))
    return count


def as_bytes(content: str) -> bytes:
    """What is written for a text. EINVAL for half of a character, which no file could hold."""
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise invalid(
            "content", f"character {error.start} is half of a character (a lone surrogate): send the whole one"
        ) from error
