"""The files of a review below `human/review/<id>/`, which a person may have removed or edited."""

import errno
import json
from collections.abc import Mapping

from ctxfs.context.grounding.review import ReviewTree
from ctxfs.model.path import Path

_ABOUT = "about.json"


async def read_optional(tree: ReviewTree, path: Path) -> bytes | None:
    """Return the content of a file; None without the file or its folder."""
    try:
        return await tree.read(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


async def read_about(tree: ReviewTree, folder: Path) -> Mapping[str, object]:
    """Return about.json of a review; empty if it cannot be parsed."""
    try:
        about = json.loads(await read_optional(tree, folder / _ABOUT) or b"{}")
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
