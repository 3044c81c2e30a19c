"""Where everything lies inside a store, and how a store is found and made."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.model.errors import EXIT_NO_STORE, CommandError
from ctxfs.store.config import default_text
from ctxfs.store.registry import (
    APPROVALS_NAME,
    CONFIG_NAME,
    check_confirmed,
    check_place,
    confirm_store,
    is_inside_tree,
)

STORE_NAME = ".ctxfs"
AREAS = ("memory", "pad", "context", "search", "human")


@dataclass(frozen=True, slots=True)
class Layout:
    """The host paths of one store."""

    root: HostPath

    @property
    def config(self) -> HostPath:
        """Settings, kept by people."""
        return self.root / CONFIG_NAME

    @property
    def tree(self) -> HostPath:
        """The work tree: the only truth about memory, pads, context requests and kept questions."""
        return self.root / "tree"

    @property
    def repo(self) -> HostPath:
        """The history of the work tree: a bare git repository."""
        return self.root / "repo.git"

    @property
    def large(self) -> HostPath:
        """Contents too large for git, by their sha256."""
        return self.root / "large"

    @property
    def journal(self) -> HostPath:
        """Who touched what, until it is committed."""
        return self.root / "journal"

    @property
    def history(self) -> HostPath:
        """What was said and done: append only."""
        return self.root / "history"

    @property
    def audit(self) -> HostPath:
        """Every operation that matters, in a chain of its own."""
        return self.history / "audit"

    @property
    def rules(self) -> HostPath:
        """The rules that people write through the tree."""
        return self.root / "policy.toml"

    @property
    def policy_past(self) -> HostPath:
        """Which rules held when."""
        return self.root / "policy.jsonl"

    @property
    def owners(self) -> HostPath:
        """Whose tasks and kept questions are whose."""
        return self.root / "owners.jsonl"

    @property
    def deliveries(self) -> HostPath:
        """What was delivered of contexts, and what responses answered: a folder a task."""
        return self.root / "deliveries"

    @property
    def marks(self) -> HostPath:
        """Which paths and contents bear marks of distrust."""
        return self.root / "marks.jsonl"

    @property
    def tokens(self) -> HostPath:
        """What is kept of the tokens that agents act with."""
        return self.root / "tokens.json"

    @property
    def tools(self) -> HostPath:
        """The store's own tools, a folder each."""
        return self.root / "tools"

    @property
    def approvals(self) -> HostPath:
        """Which of them people have approved, as they were."""
        return self.root / APPROVALS_NAME

    @property
    def servers(self) -> HostPath:
        """What MCP servers said last, and their documents: a folder each."""
        return self.root / "servers"

    @property
    def calls(self) -> HostPath:
        """Calls of tools that are kept."""
        return self.root / "calls"

    @property
    def index(self) -> HostPath:
        """Everything derived; deleting it costs time only."""
        return self.root / "index"

    @property
    def run(self) -> HostPath:
        """Socket, lock and logs of the running processes."""
        return self.root / "run"

    @property
    def errors(self) -> HostPath:
        """What failed, one JSON object a line; bounded."""
        return self.run / "errors.jsonl"


def create_store(root: HostPath) -> Layout:
    """Make a store at `root`, or complete one that is there; never overwrites anything."""
    layout = Layout(root.absolute())
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
        if not layout.config.exists():
            layout.config.write_text(default_text(), encoding="utf-8")
            layout.config.chmod(0o644)
    except OSError as error:
        raise CommandError(
            f"cannot make a store at '{root}': {error.strerror}", "check the folder's permissions and free space"
        ) from error
    return layout


def _probe_xattrs(folder: HostPath) -> None:
    """Refuse a host file system that cannot keep metadata beside the content."""
    try:
        os.setxattr(folder, "user.ctx.probe", b"1")
        os.removexattr(folder, "user.ctx.probe")
    except OSError as error:
        raise CommandError(
            f"the file system under '{folder}' has no user extended attributes ({error.strerror})",
            "put the store on ext4, xfs, btrfs, zfs or a recent tmpfs: ctxfs init --store DIR",
        ) from error


def default_root() -> HostPath:
    """The store of a user who named none: $XDG_DATA_HOME/ctxfs/store."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return HostPath(data) / "ctxfs" / "store"


def choose_root(named: str | None) -> HostPath:
    """Return the root that is meant: `named`, $CTXFS_STORE, a `.ctxfs` folder here or above, or the user's default.

    A `.ctxfs` in a mounted tree or in a store is content, and passed over. CommandError for a folder that was only found, and that the
    caller has not confirmed as it is.
    """
    chosen = named or os.environ.get("CTXFS_STORE")
    if chosen:
        return HostPath(os.path.abspath(os.path.expanduser(chosen)))
    here = _working_directory()
    for folder in (here, *here.parents) if here else ():
        # A mounted tree has a `.ctxfs` of its own at its root; only a store has the settings file.
        root = folder / STORE_NAME
        if os.path.lexists(root / CONFIG_NAME) and not is_inside_tree(root):
            check_place(root)
            check_confirmed(root)
            return root
    return default_root()


def _working_directory() -> HostPath | None:
    """Return the working directory; None where the kernel has no path for it, as in a mount that has just changed."""
    try:
        return HostPath.cwd()
    except OSError:
        named = os.environ.get("PWD", "")
        with contextlib.suppress(OSError):
            return HostPath(named) if named and os.path.samefile(named, ".") else None
    return None


def find_store(named: str | None) -> Layout:
    """The store that is meant; CommandError with the command that makes one if there is none, or if it is another user's.

    Naming a store confirms it.
    """
    root = choose_root(named)
    if not (root / CONFIG_NAME).is_file():
        raise CommandError(f"no store at '{root}'", f"make one: ctxfs --store {root} init", EXIT_NO_STORE)
    check_place(root)
    if named or os.environ.get("CTXFS_STORE") or root == default_root():
        confirm_store(root)
    return Layout(root)
