"""The arguments of the methods of the daemon itself: mounts, sources, servers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SyncedParams:
    """The number of a `sync` push, and the paths that are open for writing in the mount process."""

    number: int
    writing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MountParams:
    """A mount point on the host, the principal of its mount, by name or by credential, and its branch."""

    at: str
    principal: str = ""
    token: str = ""
    read_only: bool = False
    branch: str = ""


@dataclass(frozen=True, slots=True)
class UnmountParams:
    """A mount point, or all of them."""

    at: str = ""
    lazy: bool = False
    all: bool = False


@dataclass(frozen=True, slots=True)
class MountedParams:
    """The mount process that has connected: its mount point, principal, process id and branch."""

    at: str
    principal: str
    pid: int
    read_only: bool = False
    branch: str = ""


@dataclass(frozen=True, slots=True)
class AddParams:
    """A host folder to add as a source; an empty name stands for that of the folder."""

    path: str
    name: str
    writable: bool
    exclude: tuple[str, ...]
    tools: bool = False
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddServerParams:
    """An MCP server: a command with the names of its environment variables, or a URL."""

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: tuple[str, ...] = ()
    token_env: str = ""
    searchable: bool = False


@dataclass(frozen=True, slots=True)
class ReindexParams:
    """With `full` the index is rebuilt."""

    full: bool = False
