"""The mapping between the names and URIs of a server and file names. Pure.

Every character with a special meaning is percent-encoded. A name that is too long ends in a digest.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

_LONGEST = 200  # bytes; a name has room for 255
_DIGEST = 12
_VARIABLE = re.compile(r"\{([+/?&.;#]?)([A-Za-z0-9_.,%*]+)\}")

Parts = tuple[str, ...]
DIRECTORIES = ("inode/directory", "text/uri-list")  # media types of documents that list other documents


def file_name(name: str, reserved: Collection[str] = ()) -> str:
    """Return a file name for any text: equal texts have equal names, different texts different ones."""
    made = "".join(each if each.isprintable() and each not in "/%" else _encoded(each) for each in name)
    if not made:
        return "%"
    if made.startswith(".") or made in reserved:
        made = _encoded(made[0]) + made[1:]
    if len(made.encode()) > _LONGEST:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        made = made.encode()[: _LONGEST - _DIGEST - 1].decode("utf-8", "ignore") + f"~{digest}"
    return made


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def parts_of(uri: str) -> Parts:
    """Return the path of a document below its server's folder: the scheme, and the non-empty parts of the URI."""
    scheme, colon, rest = uri.partition(":")
    if not colon:
        scheme, rest = "", uri
    names = [unquote(part, errors="surrogateescape") for part in rest.split("/") if part]
    return tuple(file_name(name) for name in (scheme, *names) if name) or (file_name(uri),)


def placed(uris: Iterable[str]) -> Mapping[Parts, str]:
    """Return path → URI for all documents of a server.

    A document whose path is also the folder of another one gets a `~` appended to its name.
    """
    found: dict[Parts, str] = {}
    for uri in sorted(set(uris)):
        parts = parts_of(uri)
        if parts in found:
            parts = (*parts[:-1], f"{parts[-1]}~{hashlib.sha256(uri.encode('utf-8', 'replace')).hexdigest()[:_DIGEST]}")
        found[parts] = uri
    folders = {parts[:depth] for parts in found for depth in range(1, len(parts))}
    return {((*parts[:-1], f"{parts[-1]}~") if parts in folders else parts): uri for parts, uri in found.items()}


@dataclass(frozen=True, slots=True)
class Template:
    """A URI template such as `file:///{path}`, which maps paths to URIs."""

    uri: str

    @property
    def folder(self) -> Parts:
        """Return the path parts before the first variable: the folder of the documents that it names."""
        fixed = self.uri[: found.start()] if (found := _VARIABLE.search(self.uri)) else self.uri
        return () if ":" not in fixed else parts_of(fixed if fixed.endswith("/") else fixed.rpartition("/")[0] or fixed)

    def match(self, parts: Parts) -> str:
        """Return the URI for a path below the server's folder; empty if the template does not match."""
        scheme, _, rest = self.uri.partition(":")
        wanted = [scheme, *(part for part in rest.split("/") if part)]
        values: list[str] = []
        for position, pattern in enumerate(wanted):
            if position >= len(parts):
                return ""
            said = unquote(parts[position])
            variables = _VARIABLE.findall(pattern)
            if variables and variables[-1][0] in ("+", "/") and position == len(wanted) - 1:
                said = "/".join(unquote(part) for part in parts[position:])
            elif position == len(wanted) - 1 and len(parts) > len(wanted):
                return ""
            found = _values_in(pattern, said)
            if found is None:
                return ""
            values += found
        filled = iter(values)
        return _VARIABLE.sub(lambda one: quote(next(filled), safe="/" if one[1] in ("+", "/") else ""), self.uri)


def _values_in(pattern: str, text: str) -> list[str] | None:
    """Return the value of each variable of a template part in `text`, at least a character each; None without a match.

    Each variable ends at the first position where the text behind it matches. No backtracking is needed, because an
    earlier end leaves more text for the rest.
    """
    literals, end = [], 0
    for found in _VARIABLE.finditer(pattern):
        literals.append(unquote(pattern[end : found.start()]))
        end = found.end()
    tail = unquote(pattern[end:])
    if not literals:
        return [] if text == tail else None
    if not text.startswith(literals[0]):
        return None
    values, at = [], len(literals[0])
    for literal in literals[1:]:
        place = text.find(literal, at + 1)
        if place < 0:
            return None
        values.append(text[at:place])
        at = place + len(literal)
    last = len(text) - len(tail)
    if last <= at or not text.endswith(tail):
        return None
    return [*values, text[at:last]]
