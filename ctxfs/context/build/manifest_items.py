"""Items of a manifest as `json.loads` returns them. Pure, and without imports: the page uses it in a small process."""

import os
from collections.abc import Mapping
from typing import Any


def item_path(item: Mapping[str, Any]) -> str:
    """Return the path of an item, including bytes that are not UTF-8."""
    return os.fsdecode(bytes.fromhex(item["raw"])) if "raw" in item else str(item["path"])
