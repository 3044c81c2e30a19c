"""Paths of the tree in fields of forms, percent-encoded: browsers change line ends, and have no bytes beside UTF-8. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote_to_bytes

from ctxfs.model.errors import invalid
from ctxfs.model.path import encode_name

_PREFIX = "file"


def encode_path(path: str) -> str:
    """Return a path as the value of a field."""
    return quote(encode_name(path))


def decode_path(value: str) -> str:
    """Return the path in the value of a field."""
    return unquote_to_bytes(value).decode("utf-8", "surrogateescape")


def field_name(number: int) -> str:
    """Return the name of the field of a path in a list."""
    return f"{_PREFIX}{number}"


def chosen_paths(form: Mapping[str, str]) -> Sequence[str]:
    """Return the paths of a form, each once. Raise EINVAL without any."""
    values = (
        value for name, value in form.items() if name.removeprefix(_PREFIX).isdigit() and name.startswith(_PREFIX)
    )
    paths = list(dict.fromkeys(map(decode_path, values)))
    if not paths:
        raise invalid("files", "no file is chosen → tick one or more")
    return paths
