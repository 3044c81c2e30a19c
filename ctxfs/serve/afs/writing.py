"""The modes of a write: replace, create, update, append, prepend, patch.

Modes that depend on the present content are compare-and-put: another writer in between is never overwritten.
"""

import errno
import json
from collections.abc import Callable, Mapping
from typing import Any

from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.library.edits import as_bytes, replace_in_text
from ctxfs.library.results import Written
from ctxfs.model.change import ABSENT
from ctxfs.model.errors import invalid, not_found

_MAX_ATTEMPTS = 5
_MAX_PATCHES = 1000
Edit = Callable[[bytes], bytes]


async def write_content(tree: Tree, path: str, payload: Mapping[str, Any], mode: object) -> Written:
    """Write the `content` or the `patches` of a payload.

    Raise EEXIST for `create` of an existing file, ENOENT for `update` and `patch` of a missing one, EINVAL for a patch
    whose target is not in the file exactly once.
    """
    match mode:
        case "replace":
            return await tree.write(path, _content_of(payload))
        case "create":
            return await tree.write(path, _content_of(payload), expects=ABSENT)
        case "update":
            content = _content_of(payload)
            return await _edit(tree, path, lambda data: content, must_exist=True)
        case "append":
            content = _content_of(payload)
            return await _edit(tree, path, lambda data: data + content, must_exist=False)
        case "prepend":
            content = _content_of(payload)
            return await _edit(tree, path, lambda data: content + data, must_exist=False)
        case "patch":
            edit = _patch(path, payload.get("patches"))
            return await _edit(tree, path, edit, must_exist=True)
        case _:
            raise invalid("mode", "one of replace, create, update, append, prepend, patch is needed")


async def _edit(tree: Tree, path: str, edit: Edit, *, must_exist: bool) -> Written:
    """Replace a content by its edited form; repeat if another writer came between."""
    for attempt in range(_MAX_ATTEMPTS):
        try:
            data = await tree.send(requests.read(path))
            expects = requests.revision_of(data)
        except FileNotFoundError:
            if must_exist:
                raise not_found(path) from None
            data, expects = b"", ABSENT
        try:
            return await tree.write(path, edit(data), expects=expects)
        except OSError as error:
            is_race = error.errno in (errno.ESTALE, errno.EEXIST)
            if not is_race or attempt == _MAX_ATTEMPTS - 1:
                raise
    raise AssertionError  # the last attempt has returned or raised


def _content_of(payload: Mapping[str, Any]) -> bytes:
    """Return the content of a payload; values other than texts are written as JSON."""
    content = payload.get("content")
    if content is None:
        raise invalid("content", "a content is needed")
    try:
        return as_bytes(content) if isinstance(content, str) else json.dumps(content, indent=2).encode()
    except UnicodeEncodeError as error:
        raise invalid("content", "it holds half of a character") from error


def _patch(path: str, patches: object) -> Edit:
    """Return the edit of a list of patches: {op, target, content}."""
    if not isinstance(patches, list) or not patches or len(patches) > _MAX_PATCHES:
        raise invalid("patches", f"a list of 1 to {_MAX_PATCHES} patches is needed")
    pairs = [_replacement(patch) for patch in patches]

    def edit(data: bytes) -> bytes:
        for target, replacement in pairs:
            data = replace_in_text(path, data, target, replacement, replace_all=False)
        return data

    return edit


def _replacement(patch: object) -> tuple[str, str]:
    """Return the text that a patch replaces, and the new text."""
    op, target, content = "", None, None
    if isinstance(patch, Mapping):
        op, target, content = str(patch.get("op")), patch.get("target"), patch.get("content", "")
    if not isinstance(target, str) or not target or not isinstance(content, str):
        raise invalid("patches", "a patch has an op, a target and a content, all texts")
    match op:
        case "str_replace":
            return target, content
        case "insert_before":
            return target, content + target
        case "insert_after":
            return target, target + content
        case "delete":
            return target, ""
        case _:
            raise invalid("patches", "an op is str_replace, insert_before, insert_after or delete")
