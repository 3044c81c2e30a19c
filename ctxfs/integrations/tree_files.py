"""Names and lists of files for the adapters: any text as a file name, and the files below a directory."""

from collections.abc import Iterator
from urllib.parse import quote, unquote

from ctxfs.library.store import Store


def encode_name(text: str) -> str:
    """Return a name of a file for any text; a leading dot is encoded, because such files are hidden."""
    encoded = quote(text, safe=" !#$&'()+,;=@[]{}~", encoding="utf-8", errors="surrogateescape")
    return "%2E" + encoded[1:] if encoded.startswith(".") else encoded or "%"


def decode_name(name: str) -> str:
    """Return the text of a name of `encode_name`."""
    return "" if name == "%" else unquote(name, errors="surrogateescape")


def files_below(store: Store, directory: str, suffix: str) -> Iterator[str]:
    """Yield the paths of the files with a suffix at any depth below a directory; none if it does not exist."""
    pending = [directory]
    while pending:
        path = pending.pop()
        try:
            entries = store.list(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir:
                pending.append(f"{path}/{entry.name}")
            elif entry.name.endswith(suffix):
                yield f"{path}/{entry.name}"
