"""The blocking store object of the library."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar

from ctxfs.library import requests
from ctxfs.library.connection import Connection
from ctxfs.library.edits import as_bytes, directories_above, replace_in_text
from ctxfs.library.memory import Memory
from ctxfs.library.results import (
    Context,
    Entry,
    GrepMatches,
    Record,
    Rollback,
    SearchAnswer,
    Version,
    Written,
)
from ctxfs.library.watching import watch_paths
from ctxfs.store.layout import find_store

Result = TypeVar("Result")


def open_store(
    store: str | None = None, *, principal: str = "", token: str = "", session: str = "", reason: str = ""
) -> "Store":
    """Open a store; also available as `ctxfs.open`.

    `store` is its folder; None finds it as the commands do: `$CTXFS_STORE`, `.ctxfs` here or above, the default store.
    `principal` is the name that requests act for, such as `agent:x`, or `token` the credential that proves it; without
    both it is the person who runs the process. `session` and `reason` are recorded with each version.

    Raise CommandError if there is no store, or OSError EACCES for a principal that may not be taken.
    """
    join = {"principal": principal, "token": token, "session": session, "tool": "library", "reason": reason}
    opened = Store(Connection(find_store(store), {name: value for name, value in join.items() if value}))
    try:
        opened.whoami()
    except BaseException:
        opened.close()
        raise
    return opened


class Store:
    """An opened store, as one principal. Use it as a context manager, from any thread; one request at a time.

    Paths are those of the tree, without a leading slash: `memory/alice/fact/keys.md`. Errors are OSErrors, with the errno
    that a mount returns: FileNotFoundError also for a path that the principal may not see, PermissionError, EINVAL for a
    malformed request, ESTALE for a revision that is no longer the present one. Failures of the program around it (no
    daemon, a daemon that ends) are `ctxfs.CommandError`, with a remedy.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.memory = Memory(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def send(self, request: requests.Request[Result]) -> Result:
        """Send a request of `ctxfs.library.requests` and return its result."""
        return self._connection.send(request)

    def whoami(self) -> str:
        """Return the principal, as `agent:x`."""
        return self.send(requests.whoami())

    # Files

    def stat(self, path: str) -> Entry:
        """Return the entry of a path; sizes are in bytes, times in nanoseconds since the epoch."""
        return self.send(requests.stat(path))

    def exists(self, path: str) -> bool:
        """Return True if the path exists for the principal."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list(self, path: str = "") -> Sequence[Entry]:
        """Return the entries of a directory; of `search/<question>` the hits."""
        return self.send(requests.list_directory(path))

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return self.send(requests.read(path))

    def read_text(self, path: str) -> str:
        """Return the content of a file as text; bytes that are not UTF-8 become U+FFFD."""
        return self.read(path).decode("utf-8", "replace")

    def read_extracted(self, path: str) -> str:
        """Return the text of a file: extracted from PDF, office files, mail and notebooks; empty for binary files."""
        return self.send(requests.read_extracted(path))

    def write(
        self, path: str, data: str | bytes, *, attributes: Mapping[str, str] | None = None, expects: str = ""
    ) -> Written:
        """Create or replace a file, atomically, as a version; missing directories are made.

        `attributes` are set with the content, such as `{"source": "https://…"}`. `expects` is the revision that is
        replaced (`Written.revision`, or its first digits), or `absent`; ESTALE or EEXIST if it is another.
        """
        request = requests.put(path, as_bytes(data), attributes or {}, expects)
        try:
            return self.send(request)
        except FileNotFoundError:
            self._make_parents(path)
        return self.send(request)

    def append(self, path: str, line: str | bytes) -> Written:
        """Append a line to a file of `history/`."""
        return self.send(requests.append(path, as_bytes(line)))

    def edit(self, path: str, old: str, new: str, *, replace_all: bool = False) -> Written:
        """Replace `old` by `new` in a text, keeping its charset and line ends.

        Raise OSError EINVAL if `old` is not there, or more than once without `replace_all`, and ESTALE if the file
        changes meanwhile.
        """
        before = self.read(path)
        after = replace_in_text(path, before, old, new, replace_all=replace_all)
        return self.send(requests.put(path, after, {}, requests.revision_of(before)))

    def remove(self, path: str) -> None:
        """Remove a file, a link or an empty directory."""
        self.send(requests.remove(path))

    def move(self, path: str, to: str) -> None:
        """Rename a path within one area."""
        self.send(requests.move(path, to))

    def make_directory(self, path: str) -> None:
        """Make a directory, and those above it; an existing one is no error."""
        self._make_parents(path)
        try:
            self.send(requests.make_directory(path))
        except FileExistsError:
            if not self.stat(path).is_dir:
                raise

    def _make_parents(self, path: str) -> None:
        missing = []
        for directory in directories_above(path):
            if self.exists(directory):
                break
            missing.append(directory)
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another writer was first
                self.send(requests.make_directory(directory))

    def meta(self, path: str) -> dict[str, str]:
        """Return the attributes of a path, those of ctxfs by their names without `user.ctx.`."""
        return self.send(requests.meta(path))

    def set_meta(self, path: str, values: Mapping[str, str | None]) -> None:
        """Set attributes; None removes one."""
        for name, value in values.items():
            self.send(requests.set_meta(path, name, value))

    # Search and contexts

    def search(self, question: str, *, below: str = "", limit: int | None = None) -> SearchAnswer:
        """Return the hits of a question, by words and meaning; `limit` None is that of the settings."""
        return self.send(requests.search(question, below, limit))

    def find(self, filters: str, *, below: str = "", limit: int = 1000) -> Sequence[str]:
        """Return the paths of files by their attributes, newest first: `tag:deploy since:2026-01-01`."""
        return self.send(requests.find(filters, below, limit))

    def grep(
        self,
        pattern: str,
        *,
        below: str = "",
        limit: int = 10_000,
        fixed: bool = False,
        word: bool = False,
        ignore_case: bool = False,
    ) -> GrepMatches:
        """Return the lines that match a regular expression, or with `fixed` a text."""
        return self.send(requests.grep(pattern, below, limit, fixed=fixed, word=word, ignore_case=ignore_case))

    def glob(self, pattern: str, *, below: str = "", limit: int = 1000) -> Sequence[str]:
        """Return the paths of indexed files that match a pattern such as `**/*.md`."""
        return self.send(requests.glob(pattern, below, limit))

    def context(
        self,
        question: str | Sequence[str],
        *,
        budget: int | None = None,
        paths: Sequence[str] = (),
        kinds: Sequence[str] = (),
        pins: Sequence[str] = (),
        fresh: str = "",
        as_of: str = "",
        format: Literal["markdown", "xml", "json", "messages"] = "markdown",  # noqa: A002 - as in request.toml
        options: Mapping[str, object] | None = None,
    ) -> Context:
        """Build a context for a question, or several, of at most `budget` tokens; None is the budget of the settings.

        `pins` are files, or lines of files (`path:3-9`), that come first. `fresh` excludes older content, `as_of` takes
        memory and pads of a version. `options` are the other fields of a request.toml.
        """
        request: dict[str, object] = {"format": format, **(options or {})}
        for name, value in (("paths", list(paths)), ("kinds", list(kinds)), ("pins", list(pins))):
            if value:
                request[name] = value
        for name, text in (("fresh", fresh), ("as_of", as_of)):
            if text:
                request[name] = text
        return self.send(requests.context(question, budget, request))

    def verify_context(self, context: Context) -> bool:
        """Return True if the context can be built again, byte for byte, from its manifest."""
        return self.send(requests.verify_context(context.manifest_bytes))

    # The event log

    def history(
        self, *, session: str = "", day: str = "", principal: str = "", kind: str = "", limit: int = 1000
    ) -> Sequence[Record]:
        """Return the newest records of the event log that pass the filters, oldest first."""
        return self.send(requests.history(day, session, principal, kind, limit))

    def record(self, *messages: str | Mapping[str, object], session: str = "") -> int:
        """Append records to the event log: texts, or members such as `kind`, `text`, `speaker`, `said_at`."""
        said = [{"kind": "note", "text": item} if isinstance(item, str) else item for item in messages]
        return self.send(requests.record(said, session))

    # Versions

    def log(
        self,
        path: str = "",
        *,
        limit: int = 100,
        changes: bool = False,
        principal: str = "",
        session: str = "",
        since: str = "",
        until: str = "",
    ) -> Sequence[Version]:
        """Return the versions of a path that pass the filters, newest first; with `changes` also their changes.

        Times are as a person writes them: `2h`, `yesterday`, `2026-11-20T10:00`.
        """
        filters = {"principal": principal, "session": session, "since": since, "until": until}
        return self.send(requests.log(path, {"limit": limit, "changes": changes, **filters}))

    def show(self, path: str, at: str) -> bytes:
        """Return the content of a file in a version, a snapshot, or at a time."""
        return self.send(requests.show(path, at))

    def diff(self, path: str, old: str, new: str = "latest") -> str:
        """Return the difference between two versions of a path, as git prints it."""
        return self.send(requests.diff(path, old, new))

    def undo(
        self,
        path: str = "",
        *,
        principal: str = "",
        session: str = "",
        since: str = "",
        until: str = "",
        dry_run: bool = False,
        reason: str = "",
    ) -> Rollback:
        """Undo the changes below a path that the filters select; without a filter the newest change."""
        filters = {"principal": principal, "session": session, "since": since, "until": until}
        return self.send(requests.rollback("undo", path, {"dry_run": dry_run, "reason": reason, **filters}))

    def redo(self, path: str = "", *, dry_run: bool = False) -> Rollback:
        """Take back the last undo below a path."""
        return self.send(requests.rollback("redo", path, {"dry_run": dry_run}))

    def restore(self, path: str, to: str, *, dry_run: bool = False, reason: str = "") -> Rollback:
        """Restore a path to a version, a snapshot, a time, or `prev`, as a new version."""
        return self.send(requests.rollback("restore", path, {"to": to, "dry_run": dry_run, "reason": reason}))

    def snapshot(self, name: str) -> Version:
        """Name the present version."""
        return self.send(requests.snapshot(name))

    def watch(self, below: str = "", *, timeout: float | None = None) -> Generator[Sequence[str], None, None]:
        """Yield the paths that may have changed at and below a path, those of one moment together, until the caller stops.

        Only paths that the principal may see; a deleted one if all of its directory is visible. A directory stands for
        all below it: a new one, or `below` when the daemon begins to follow the files. With `timeout` in seconds an empty
        sequence is yielded when nothing changed for so long. Raise CommandError without a daemon.
        """
        return watch_paths(self._connection, below, timeout)
