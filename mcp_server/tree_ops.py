"""Single operations on the tree, as functions over a TreeSession."""

import hashlib

from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.model.change import Change, MakeDir, Remove
from ctxfs.model.entry import Entry
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path
from ctxfs.rpc.wire import change_to_wire, entry_from_wire

REVISION_DIGITS = 12  # hexadecimal digits of the sha256 in a revision


def revision_of(data: bytes) -> str:
    """Return the revision of a content for optimistic concurrency: the first digits of its sha256."""
    return hashlib.sha256(data).hexdigest()[:REVISION_DIGITS]


async def read(tree: TreeSession, path: Path) -> bytes:
    """Return the content of a file."""
    data: bytes = await tree.call("read", path=str(path))
    return data


async def read_labelled(tree: TreeSession, path: Path) -> tuple[bytes, str]:
    """Return a file and the label to show beside it (`ctxfs.model.metadata.distrust_label`)."""
    reply = await tree.call("read_labelled", path=str(path))
    return reply["data"], str(reply["label"])


async def stat(tree: TreeSession, path: Path) -> Entry:
    """Return the entry at a path."""
    return entry_from_wire(await tree.call("stat", path=str(path)))


async def entries(tree: TreeSession, path: Path) -> list[Entry]:
    """Return the entries of a directory."""
    return [entry_from_wire(row) for row in await tree.call("list", path=str(path))]


async def apply(tree: TreeSession, change: Change) -> list[str]:
    """Apply a change and return the warnings of the tree."""
    reply = await tree.call("apply", change=change_to_wire(change))
    return [str(warning) for warning in reply["warnings"]]


async def make_parents(tree: TreeSession, path: Path) -> None:
    """Create the missing directories above a file, below the area's root."""
    missing: list[Path] = []
    directory = path.parent
    while len(directory.parts) > 1:
        try:
            await stat(tree, directory)
            break
        except FileNotFoundError:
            missing.append(directory)
            directory = directory.parent
    for directory in reversed(missing):
        try:
            await apply(tree, MakeDir(directory))
        except FileExistsError:
            continue


async def delete_tree(tree: TreeSession, path: Path) -> int:
    """Delete a directory with its content; symbolic links are not followed. Return the number of entries in it."""
    count, pending, directories = 0, [path], list[Path]()
    while pending:  # iterative: trees may be deeper than the interpreter's recursion limit
        directory = pending.pop()
        directories.append(directory)
        for entry in await entries(tree, directory):
            count += 1
            if entry.is_dir:
                pending.append(directory / entry.name)
            else:
                await apply(tree, Remove(directory / entry.name))
    for directory in reversed(directories):
        await apply(tree, Remove(directory))
    return count


def encode_text(content: str) -> bytes:
    """Encode a text for a write. Raises EINVAL for a lone surrogate, which UTF-8 cannot encode."""
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise invalid(
            "content", f"character {error.start} is half of a character (a lone surrogate): send the whole one"
        ) from error
