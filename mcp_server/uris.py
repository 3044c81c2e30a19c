"""Addresses `ctx:///memory/alice/note.md`: tree paths, percent-encoded name by name. Pure functions."""

import mimetypes
from urllib.parse import quote, unquote_to_bytes

from ctxfs.index.extract.text_decoding import is_binary
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, encode_name, one_line

SCHEME = "ctx:///"
TEMPLATE = "ctx:///{+path}"
_SAFE = "!$&'()*+,;=:@~"


def uri_of(path: Path) -> str:
    """Return the address of a path; every name round-trips, including names that are not UTF-8."""
    return SCHEME + "/".join(quote(encode_name(part), safe=_SAFE) for part in path.parts)


def path_of(uri: str) -> Path:
    """Return the path of an address.

    Raises EINVAL for another scheme, and for `..` or a slash in a name, also percent-encoded.
    """
    if not uri.startswith(SCHEME):
        raise invalid(printable_uri(uri), f"an address of this tree begins with {SCHEME}")
    names = []
    for part in uri[len(SCHEME) :].split("/"):
        name = unquote_to_bytes(part.encode("utf-8", "replace")).decode("utf-8", "surrogateescape")
        if "/" in name or name in (".", ".."):
            raise invalid(printable_uri(uri), "a name cannot be '..' or hold a slash")
        names.append(name)
    return Path.parse("/".join(names))


def parse_path(path: str) -> Path:
    """Parse a client's path: relative to the root of the tree, with or without a leading slash, or an address."""
    if path.startswith("ctx:"):
        return path_of(path)
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise invalid(printable_uri(path), "it holds half of a character (a lone surrogate)") from error
    return Path.parse(path)


def printable_path(path: Path) -> str:
    """Return a path that a client can print and send back: plain, or as an address if a name is not printable text."""
    text = str(path)
    return text if one_line(text) == text else uri_of(path)


def printable_uri(text: str) -> str:
    """Return a client's text for an error message, encodable and bounded."""
    return text.encode("utf-8", "replace").decode()[:500]


def mime_type_of(path: Path, data: bytes | None = None) -> str:
    """Guess the media type by the name, else by the content: text or bytes."""
    guessed, _ = mimetypes.guess_type(path.name, strict=False)
    if guessed is None and path.name.endswith((".jsonl", ".toml")):
        guessed = "application/jsonl" if path.name.endswith(".jsonl") else "application/toml"
    if guessed is not None and path.name.endswith(".md"):
        return "text/markdown"
    if guessed is not None:
        return guessed
    return "application/octet-stream" if data is not None and is_binary(data) else "text/plain"
