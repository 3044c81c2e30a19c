"""The layout of a store on disk, and its discovery and creation."""

import os
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.model.errors import EXIT_BUSY, EXIT_NO_STORE, CommandError
from ctxfs.model.path import Path
from ctxfs.store import location, store_format
from ctxfs.store.location import CONFIG_NAME, check_location
from ctxfs.store.registry import APPROVALS_NAME, check_confirmed, confirm_store

AREAS = ("memory", "pad", "context", "search", "human")
_VIEWS = frozenset((".versions", ".search"))


@dataclass(frozen=True, slots=True)
class Layout:
    """The host paths of one store."""

    root: HostPath

    @property
    def config(self) -> HostPath:
        """Return the settings file, which people edit."""
        return self.root / CONFIG_NAME

    @property
    def tree(self) -> HostPath:
        """Return the work tree: the only authoritative copy of memory, pads, context requests and stored queries."""
        return self.root / "tree"

    @property
    def repo(self) -> HostPath:
        """Return the bare git repository with the versions of the work tree."""
        return self.root / "repo.git"

    @property
    def large(self) -> HostPath:
        """Return the folder of contents too large for git, by their SHA-256."""
        return self.root / "large"

    @property
    def journal(self) -> HostPath:
        """Return the folder of the journal: uncommitted changes by session."""
        return self.root / "journal"

    @property
    def history(self) -> HostPath:
        """Return the folder of the event log, which is append-only."""
        return self.root / "history"

    @property
    def audit(self) -> HostPath:
        """Return the folder of the audit, which has a hash chain of its own."""
        return self.history / "audit"

    @property
    def rules(self) -> HostPath:
        """Return the rules that people write through the tree."""
        return self.root / "policy.toml"

    @property
    def memory_rules(self) -> HostPath:
        """Return the rules for the life of memories, which people write through the tree."""
        return self.root / "memory.toml"

    @property
    def policy_history(self) -> HostPath:
        """Return the record of earlier rules, with their times."""
        return self.root / "policy.jsonl"

    @property
    def owners(self) -> HostPath:
        """Return the owners of tasks and stored queries."""
        return self.root / "owners.jsonl"

    @property
    def deliveries(self) -> HostPath:
        """Return the records of delivered contexts and answered ones, with a folder for each task."""
        return self.root / "deliveries"

    @property
    def marks(self) -> HostPath:
        """Return the untrusted, quarantined and frozen marks of paths and contents."""
        return self.root / "marks.jsonl"

    @property
    def citation_key(self) -> HostPath:
        """Return the key of the marks of files in citations."""
        return self.root / "citations.key"

    @property
    def tokens(self) -> HostPath:
        """Return the credentials of agents, without their secrets."""
        return self.root / "tokens.json"

    @property
    def tools(self) -> HostPath:
        """Return the folder of the store's own tools."""
        return self.root / "tools"

    @property
    def approvals(self) -> HostPath:
        """Return the approvals of tools, with the approved content."""
        return self.root / APPROVALS_NAME

    @property
    def servers(self) -> HostPath:
        """Return the folder of MCP servers, with a folder for the last listings and documents of each."""
        return self.root / "servers"

    @property
    def calls(self) -> HostPath:
        """Return the folder of stored tool calls."""
        return self.root / "calls"

    @property
    def index(self) -> HostPath:
        """Return the folder of derived data; deleting it costs only time."""
        return self.root / "index"

    @property
    def run(self) -> HostPath:
        """Return the folder of sockets, locks and logs of running processes."""
        return self.root / "run"

    @property
    def errors(self) -> HostPath:
        """Return the errors log, one JSON object a line; bounded."""
        return self.run / "errors.jsonl"


def create_store(root: HostPath) -> Layout:
    """Create a store at `root`, or complete an existing one; never overwrites a file."""
    layout = Layout(root.absolute())
    if layout.config.exists():
        _check_format(layout)
    if root.exists() and not root.is_dir():
        raise CommandError(f"'{root}' exists and is not a folder", "choose another place with --store DIR")
    if root.is_dir() and not layout.config.exists() and any(root.iterdir()):
        raise CommandError(f"'{root}' holds files that are not a ctxfs store", "choose an empty or new folder")
    try:
        for folder in (
            layout.root,
            layout.tree,
            layout.index,
            layout.run,
            layout.journal,
            layout.deliveries,
            *(layout.tree / a for a in AREAS),
        ):
            folder.mkdir(parents=True, exist_ok=True)
        (layout.tree / "memory" / "shared").mkdir(exist_ok=True)
        for private in (layout.root, layout.run, layout.journal, layout.deliveries):
            private.chmod(0o700)
        _probe_xattrs(layout.tree)
        is_new = not layout.config.exists()
        if is_new:
            from ctxfs.store.config import default_text  # here, because commands on a store need no settings

            layout.config.write_text(default_text(), encoding="utf-8")
            layout.config.chmod(0o644)
        store_format.write_format(layout.root, is_new=is_new)
    except OSError as error:
        raise CommandError(
            f"cannot make a store at '{root}': {error.strerror}",
            "check the folder's permissions and free space, or name another place: ctxfs --store DIR init",
        ) from error
    return layout


def _probe_xattrs(folder: HostPath) -> None:
    """Refuse a host file system without user extended attributes, which hold the metadata of files."""
    try:
        os.setxattr(folder, "user.ctx.probe", b"1")
        os.removexattr(folder, "user.ctx.probe")
    except OSError as error:
        raise CommandError(
            f"the file system under '{folder}' has no user extended attributes ({error.strerror})",
            "put the store on ext4, xfs, btrfs, zfs or a recent tmpfs: ctxfs init --store DIR",
        ) from error


def default_root() -> HostPath:
    """Return the default store of a user."""
    return HostPath(location.default_root())


def _is_default(root: HostPath) -> bool:
    try:
        return root == default_root()
    except CommandError:  # a user without a home folder has no default store
        return False


def choose_root(named: str | None) -> HostPath:
    """Return the store's root: `named`, $CTXFS_STORE, a `.ctxfs` folder here or above, or the user's default.

    Raise CommandError for a discovered folder that the caller has not confirmed in its present state.
    """
    if root := location.named_root(named):
        return HostPath(root)
    if root := location.discover_root():
        check_location(root)
        check_confirmed(HostPath(root))
    return HostPath(root or location.default_root())


def find_store(named: str | None) -> Layout:
    """Return the layout of the chosen store; naming a store confirms it.

    Raise CommandError if there is none, with the command that creates one, or if it is another user's.
    """
    root = choose_root(named)
    if not (root / CONFIG_NAME).is_file():
        raise CommandError(f"no store at '{root}'", f"make one: ctxfs --store {root} init", EXIT_NO_STORE)
    check_location(root)
    _check_format(Layout(root))
    if named or os.environ.get("CTXFS_STORE") or _is_default(root):
        confirm_store(root)
    return Layout(root)


def _check_format(layout: Layout) -> None:
    """Migrate a store of an older format, and raise CommandError for a newer one.

    A store that an older daemon serves is left to the next holder of its lock.
    """
    if store_format.check_format(layout.root) == store_format.FORMAT:
        return
    from ctxfs.store.lock import StoreLock

    lock = StoreLock(layout.run)
    try:
        lock.acquire()
    except CommandError as error:
        if error.code != EXIT_BUSY:
            raise
    finally:
        lock.release()


def is_versioned(path: Path) -> bool:
    """Return True for paths in the work tree; `.versions` and `.search` below them have no versions."""
    return bool(path.parts) and path.parts[0] in AREAS and not _VIEWS & set(path.parts)
