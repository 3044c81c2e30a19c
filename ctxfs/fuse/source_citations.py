"""Citations of files whose `user.ctx.source` is set through a mount: the daemon reads the named lines for the principal."""

import stat as st
from contextlib import suppress
from typing import Any

from ctxfs.fuse.backed_xattrs import BackedAttributes
from ctxfs.fuse.inodes import Node
from ctxfs.fuse.state import State
from ctxfs.memory.citations import CITES_ATTRIBUTE, SOURCE_ATTRIBUTE, has_citations_of, parse_span

_SOURCE, _CITES = SOURCE_ATTRIBUTE.encode(), CITES_ATTRIBUTE.encode()


class SourceCitations:
    """Sets `user.ctx.cites` beside a `user.ctx.source` that names lines of the tree."""

    def __init__(self, state: State, attributes: BackedAttributes) -> None:
        self._attributes = attributes
        self._call = state.call
        self._loop = state.loop

    def follows(self, node: Node, name: bytes, value: bytes) -> bool:
        """Return True for an attribute after which the citations of a file are set."""
        is_source = name == _SOURCE and node.disk_key.kind == st.S_IFREG
        return is_source and parse_span(value.decode("utf-8", "replace")) is not None

    async def set_source(self, node: Node, value: bytes, flags: int) -> None:
        """Set `source`, then the citations of its lines, unless the file has citations of its own.

        The order is that of the caller: a copy of a file sets both attributes, in any order. Without the daemon, or for
        lines that the principal may not read, only `source` is set.
        """
        before = self._read(node, _SOURCE)
        self._attributes.set_xattr(node, _SOURCE, value, flags)
        cites = self._read(node, _CITES)
        if has_citations_of(cites, before, value):
            return
        with suppress(OSError):
            answer = await self._loop.call(self._cite, value.decode("utf-8", "replace"))
            # Another caller may have set either attribute meanwhile.
            if answer and (self._read(node, _SOURCE), self._read(node, _CITES)) == (value, cites):
                self._attributes.set_xattr(node, _CITES, answer, 0)

    async def _cite(self, source: str) -> Any:
        return await self._call("cite_source", source=source)

    def _read(self, node: Node, name: bytes) -> bytes:
        return self._attributes.stored_xattr(node, name)
