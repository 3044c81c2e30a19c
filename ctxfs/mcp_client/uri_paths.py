"""The mapping between the names and URIs of a server and file names. Pure.

Every character with a special meaning is percent-encoded. A name that is too long ends in a digest.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

_MAX_NAME_BYTES = 200  # NAME_MAX is 255
_DIGEST_CHARACTERS = 12
_VARIABLE = re.compile(r"\{([+/?&.;#]?)([A-Za-z0-9_.,%*]+)\}")

Parts = tuple[str, ...]
DIRECTORIES = ("inode/directory", "text/uri-list")  # media types of documents that list other documents


def file_name(name: str, reserved: Collection[str] = ()) -> str:
    """Return a file name for any text: equal texts have equal names, different texts different ones."""
    result = "".join(
        character if character.isprintable() and character not in "/%" else _encoded(character) for character in name
    )
    if not result:
        return "%"
    if result.startswith(".") or result in reserved:
        result = _encoded(result[0]) + result[1:]
    if len(result.encode()) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
        result = result.encode()[: _MAX_NAME_BYTES - _DIGEST_CHARACTERS - 1].decode("utf-8", "ignore") + f"~{digest}"
    return result


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def parts_of(uri: str) -> Parts:
    """Return the path of a document below its server's folder: the scheme, and the non-empty parts of the URI."""
    scheme, colon, rest = uri.partition(":")
    if not colon:
        scheme, rest = "", uri
    names = [unquote(part, errors="surrogateescape") for part in rest.split("/") if part]
    return tuple(file_name(name) for name in (scheme, *names) if name) or (file_name(uri),)


def document_paths(uris: Iterable[str]) -> Mapping[Parts, str]:
    """Return path → URI for all documents of a server.

    A document whose path is also the folder of another one gets a `~` appended to its name.
    """
    documents: dict[Parts, str] = {}
    for uri in sorted(set(uris)):
        parts = parts_of(uri)
        if parts in documents:
            parts = (
                *parts[:-1],
                f"{parts[-1]}~{hashlib.sha256(uri.encode('utf-8', 'replace')).hexdigest()[:_DIGEST_CHARACTERS]}",
            )
        documents[parts] = uri
    folders = {parts[:depth] for parts in documents for depth in range(1, len(parts))}
    return {((*parts[:-1], f"{parts[-1]}~") if parts in folders else parts): uri for parts, uri in documents.items()}


@dataclass(frozen=True, slots=True)
class Template:
    """A URI template such as `file:///{path}`, which maps paths to URIs."""

    uri: str

    @property
    def folder(self) -> Parts:
        """Return the path parts before the first variable: the folder of the documents that it names."""
        fixed = self.uri[: variable.start()] if (variable := _VARIABLE.search(self.uri)) else self.uri
        return () if ":" not in fixed else parts_of(fixed if fixed.endswith("/") else fixed.rpartition("/")[0] or fixed)

    def match(self, parts: Parts) -> str:
        """Return the URI for a path below the server's folder; empty if the template does not match."""
        scheme, _, rest = self.uri.partition(":")
        patterns = [scheme, *(part for part in rest.split("/") if part)]
        values: list[str] = []
        for position, pattern in enumerate(patterns):
            if position >= len(parts):
                return ""
            text = unquote(parts[position])
            variables = _VARIABLE.findall(pattern)
            if variables and variables[-1][0] in ("+", "/") and position == len(patterns) - 1:
                text = "/".join(unquote(part) for part in parts[position:])
            elif position == len(patterns) - 1 and len(parts) > len(patterns):
                return ""
            part_values = _values_in(pattern, text)
            if part_values is None:
                return ""
            values += part_values
        filled = iter(values)
        return _VARIABLE.sub(
            lambda variable: quote(next(filled), safe="/" if variable[1] in ("+", "/") else ""), self.uri
        )


def _values_in(pattern: str, text: str) -> list[str] | None:
    """Return the value of each variable of a template part in `text`, at least a character each; None without a match.

    Each variable ends at the first position where the text behind it matches. No backtracking is needed, because an
    earlier end leaves more text for the rest.
    """
    literals, end = [], 0
    for variable in _VARIABLE.finditer(pattern):
        literals.append(unquote(pattern[end : variable.start()]))
        end = variable.end()
    tail = unquote(pattern[end:])
    if not literals:
        return [] if text == tail else None
    if not text.startswith(literals[0]):
        return None
    values, start = [], len(literals[0])
    for literal in literals[1:]:
        position = text.find(literal, start + 1)
        if position < 0:
            return None
        values.append(text[start:position])
        start = position + len(literal)
    last = len(text) - len(tail)
    if last <= start or not text.endswith(tail):
        return None
    return [*values, text[start:last]]
