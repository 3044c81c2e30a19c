"""The connection of a node to its engine, by the settings of its membership."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxfs.shared.log import SharedLog
    from ctxfs.store.settings import SharedSettings

_MAX_NODE_CHARACTERS = 64


def connect_engine(settings: SharedSettings, *, create: bool = False) -> SharedLog:
    """Open the log of the shared store; with `create`, begin it unless it exists. Raise errors as `open_log` does."""
    from ctxfs.shared.engines import open_log

    password = os.environ.get(settings.password_env, "") if settings.password_env else ""
    return open_log(settings.url, settings.store, password, create=create)


def host_node_name() -> str:
    """Return the name of this machine as that of a node."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")
    return name[:_MAX_NODE_CHARACTERS] or "node"
