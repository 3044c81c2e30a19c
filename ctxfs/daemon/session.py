"""The sessions of commands and MCP clients.

A session goes through the daemon if one runs; otherwise it opens the store in this process.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ctxfs.model.errors import CommandError
from ctxfs.model.path import printable
from ctxfs.store.layout import Layout, find_store

if TYPE_CHECKING:
    from ctxfs.daemon.api.params import JoinParams

_CREDENTIAL_VARIABLE = "CTXFS_TOKEN"


class StoreSession(Protocol):
    """A client of the methods of `daemon.api.methods`: plain values in, plain values out; OSError and CommandError."""

    def call(self, method: str, **arguments: object) -> Any:
        """Return the response to one request."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class LocalSession:
    """The store opened in this process. Imports are deferred, so that commands with a daemon start fast."""

    def __init__(self, layout: Layout) -> None:
        from ctxfs.app import App

        self.app = App(layout)
        self._caller = self.app.session(self.app.principal)
        self._should_catch_up = True

    def catch_up_once(self) -> None:
        """Bring the index up to date now, and not again for the rest of the session."""
        self._catch_up()
        self._should_catch_up = False

    def call(self, method: str, **arguments: object) -> Any:
        """Run the method under a trio loop of its own."""
        import trio

        from ctxfs.daemon.api.methods import METHODS, run_method
        from ctxfs.daemon.api.params import JoinParams, parse_params
        from ctxfs.daemon.api.registry import Effect

        if method == "join":
            return self._join(parse_params(JoinParams, arguments))
        declared = METHODS[method]
        if Effect.READS_INDEX in declared.effects and self._should_catch_up:
            self._catch_up()
        if Effect.COMMITS_FIRST in declared.effects:
            self.app.archive.commit_if_space()
        response = trio.run(run_method, self.app, self._caller, declared, arguments)
        erases = Effect.ERASES in declared.effects and not arguments.get("dry_run")
        if self.app.sharing.pop_purge() or erases:
            self._catch_up(purge=True)
            self.app.sharing.record_purge()
        return response

    @property
    def holds_store(self) -> bool:
        """Return True while no daemon can start, because a call has opened the versions."""
        return self.app.archive.is_open

    def release_store(self) -> None:
        """Close the versions, so that a daemon or another session can open them.

        The next call that needs them opens them again.
        """
        self.app.archive.close()

    def close(self) -> None:
        """End the session.

        Changes are committed now if the versions are open, otherwise by the next process that opens them.
        """
        self._caller.close()
        self.app.grep_pool.close()
        self.app.sharing.close()
        self.app.archive.close()
        self.app.spool.close()  # the next reader of the audit collects it

    def _join(self, params: "JoinParams") -> dict[str, str]:
        from ctxfs.daemon.api.permissions import bound_principal, check_branch

        named = bound_principal(self.app, self._caller.principal, params.principal, params.token)
        branch = check_branch(self.app, params.branch)
        self._caller.close()
        self._caller = self.app.session(named, params.session, params.tool, params.reason).on(branch)
        return {"session": self._caller.actor.session, "principal": str(named)}

    def _catch_up(self, *, purge: bool = False) -> None:
        """Bring the full-text index up to date, since no daemon followed the files.

        With `purge` erase deleted content from the index.
        """
        import trio

        from ctxfs.index.engines.catalog import Catalog
        from ctxfs.index.engines.fulltext import FullText
        from ctxfs.index.engines.vectors import drop_graph
        from ctxfs.index.ingest.embed_worker import embed_few
        from ctxfs.index.ingest.ingester import Ingester
        from ctxfs.store.lock import StoreLock

        trio.run(self.app.capture.collect)  # captured events are found like other records
        self.app.archive.close()  # it holds the same lock
        lock = StoreLock(self.app.layout.run)
        try:
            lock.acquire()
        except CommandError:
            return  # another process holds the store and catches up
        try:
            options = self.app.sources.indexer_options()
            catalog = Catalog(options.folder)
            ingester = Ingester(
                catalog, FullText(options.folder / "words", make=True), options.max_file_bytes, lambda _: None
            )
            ingester.recover()
            ingester.set_roots(self.app.sources.indexed_roots())
            if purge:
                ingester.purge()
                drop_graph(options.folder)
            else:
                ingester.scan_all()
            ingester.close()
            embed_few(options)
        finally:
            lock.release()
        self.app.searcher.refresh(graph=True)  # if an earlier request has opened the index


def connect(layout: Layout) -> StoreSession:
    """Return a session with the daemon, or a local one if no daemon runs."""
    from ctxfs.rpc.client import Client, NoDaemon

    try:
        return Client(layout.run)
    except NoDaemon:
        return LocalSession(layout)


@contextlib.contextmanager
def session(store: str | None) -> Iterator[StoreSession]:
    """Open a session with the store, for the principal of the credential in $CTXFS_TOKEN if that is set."""
    opened = connect(find_store(store))
    try:
        if token := os.environ.get(_CREDENTIAL_VARIABLE):
            opened.call("join", token=token, tool="shell")
        yield opened
    except FileNotFoundError as error:
        note_nearest(opened, error)
        raise
    finally:
        opened.close()


def note_nearest(opened: StoreSession, error: FileNotFoundError) -> None:
    """Add a note with the most similar paths to the error for a missing path of the tree, if there are any."""
    path = error.filename
    if not isinstance(path, str) or path.startswith("/") or error.strerror != os.strerror(errno.ENOENT):
        return
    with contextlib.suppress(OSError, CommandError):
        if paths := opened.call("nearest", path=path):
            error.add_note(f"did you mean {' or '.join(repr(printable(str(path))) for path in paths)}?")
