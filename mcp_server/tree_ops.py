"""Single operations on the tree, as functions over a TreeSession."""

import hashlib

from ctxfs.model.change import Change, MakeDir, Remove
from ctxfs.model.entry import Entry
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path
from ctxfs.rpc.wire import change_to_wire, entry_from_wire
from mcp_server.sessions import TreeSession

DIGITS = 12  # hexadecimal digits of the sha256 in a revision


def revision_of(data: bytes) -> str:
    """Return the revision of a content for optimistic concurrency: the first digits of its sha256."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


async def read(door: TreeSession, path: Path) -> bytes:
    """Return the content of a file."""
    data: bytes = await door.call("read", path=str(path))
    return data


async def read_labelled(door: TreeSession, path: Path) -> tuple[bytes, str]:
    """Return a file and the label to show beside it (`ctxfs.model.metadata.distrust_label`)."""
    found = await door.call("read_labelled", path=str(path))
    return found["data"], str(found["label"])


async def stat(door: TreeSession, path: Path) -> Entry:
    """Return the entry at a path."""
    return entry_from_wire(await door.call("stat", path=str(path)))


async def entries(door: TreeSession, path: Path) -> list[Entry]:
    """Return the entries of a directory."""
    return [entry_from_wire(value) for value in await door.call("list", path=str(path))]


async def apply(door: TreeSession, change: Change) -> list[str]:
    """Apply a change and return the warnings of the tree."""
    done = await door.call("apply", change=change_to_wire(change))
    return [str(warning) for warning in done["warnings"]]


async def make_parents(door: TreeSession, path: Path) -> None:
    """Create the missing directories above a file, below the area's root."""
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
    """Delete a directory with its content; symbolic links are not followed. Return the number of entries in it."""
    count, pending, directories = 0, [path], list[Path]()
    while pending:  # iterative: trees may be deeper than the interpreter's recursion limit
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
    """Encode a text for a write. Raises EINVAL for a lone surrogate, which UTF-8 cannot encode."""
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise invalid(
            "content", f"character {error.start} is half of a character (a lone surrogate): send the whole one"
        ) from error
