"""The store that a daemon serves, found with few imports, so that commands start fast."""

from __future__ import annotations

import os

from ctxfs.model.errors import CommandError
from ctxfs.store.location import check_location, default_root, discover_root, named_root
from ctxfs.store.store_format import FORMAT, read_format


def find_served_run(named: str | None) -> str:
    """Return the folder of the socket of a named store, or of the default one; empty if `find_store` must decide.

    Location and format are checked. The confirmation is not: naming a store confirms it, and so did its daemon. A store
    that is discovered in a folder is left to `find_store`.
    """
    try:
        root = named_root(named) or ("" if discover_root() else default_root())
        if not root:
            return ""
        check_location(root)
        return os.path.join(root, "run") if read_format(root) == FORMAT else ""
    except CommandError:
        return ""
