"""Search for the calling principal: ranked questions, filters, exact search, names, and contexts built from answers."""

import errno
import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from ctxfs.context.build.constructor import (
    MAX_CANDIDATES,
    Constructor,
    Context,
    Summarise,
    TreeView,
    context_of_results,
)
from ctxfs.context.build.copied_text import CopiedText, find_copied_text, inherited_trust
from ctxfs.context.build.request import Request
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.context.build.tree_view import CurrentTree, HeldFacts, TreeAsOf
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.query import parse_query
from ctxfs.index.search.glob import glob_matcher
from ctxfs.index.search.grep import GrepOutput, GrepResult, Matcher, split_paths
from ctxfs.index.search.grep_pool import GrepPool
from ctxfs.index.search.history_views import selection_of
from ctxfs.index.search.results import Generation, SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.change import Put
from ctxfs.model.errors import path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.engine import is_call_record
from ctxfs.policy.scope import VersionScope
from ctxfs.services.sources import Sources
from ctxfs.threads import blocking
from ctxfs.toolbox import Toolbox
from ctxfs.versions.archive import Archive
from ctxfs.vfs.caller_context import acting_principal

log = logging.getLogger(__name__)


class Search:
    """Questions to the index, and exact search in the indexed files."""

    def __init__(
        self,
        searcher: Searcher,
        tools: Toolbox,
        sources: Sources,
        grep_pool: GrepPool,
        owner: Principal,
        facts: HeldFacts,
        origin_share: Callable[[], float],
        sharing_note: Callable[[], str] = str,
    ) -> None:
        """`origin_share` returns the share of a context that the pieces of one origin may use.

        `sharing_note` returns why versions of other machines may be missing; empty if none is known to.
        """
        self._sharing_note = sharing_note
        self._last_note = ""
        self._facts = facts
        self._origin_share = origin_share
        self._searcher = searcher
        self._tools = tools
        self._sources = sources
        self._grep_pool = grep_pool
        self._owner = owner

    def generation(self) -> Generation:
        """Return the state of the index; an answer of another generation may differ."""
        if (note := self._sharing_note()) != self._last_note:
            self._last_note = note
            self._searcher.invalidate_results()
        return self._searcher.generation

    async def ask(self, question: str, below: Path) -> SearchResults:
        """Return the best chunks for a question; below tools/, the best tools."""
        query = parse_query(question)
        if below.parts[:1] == ("tools",) and not is_call_record(below):
            return await self._tools.find(query, below)
        results = await blocking(self._searcher.search, query, below, MAX_CANDIDATES)
        note = self._sharing_note()
        return replace(results, remarks=(*results.remarks, note)) if note else results

    async def find(self, filters: str, below: Path, limit: int) -> list[str]:
        """Return the paths of files whose attributes satisfy `filters`, newest first. EINVAL without a filter."""
        return await blocking(self._searcher.find_by_filters, parse_query(filters), below, limit)

    async def grep(self, matcher: Matcher, below: Path, limit: int, only: GrepOutput, *, hidden: bool) -> GrepResult:
        """Return matching lines in the order of paths. Only files that can match by the trigrams of the index are read.

        Below a view of an agent, only lines of its records.
        """
        matcher = matcher.restricted_to(selection_of(below).principal)
        paths = await self._candidates(matcher.needed, below)
        files = split_paths(paths, self._sources.indexed_roots(), hidden=hidden)
        principal = str(acting_principal() or self._owner)
        lines, faults = await self._grep_pool.scan(principal, files, matcher, only, limit)
        if behind := self._searcher.coverage_note():
            faults = [*faults, behind]
        return GrepResult(lines[:limit], faults, more=len(lines) > limit)

    async def glob(self, pattern: str, below: Path, limit: int) -> list[str]:
        """Return the paths of indexed files that match a pattern such as `**/*.md`, in order. EINVAL for a malformed one."""
        matches = glob_matcher(pattern)
        return list(itertools.islice(filter(matches, await self._candidates((), below)), limit))

    async def _candidates(self, needed: Sequence[Collection[str]], below: Path) -> Sequence[str]:
        paths = await blocking(self._searcher.candidate_files, needed, below)
        if paths is None:
            raise path_error(errno.EAGAIN, below, "nothing has been indexed yet: try again in a moment")
        return paths

    async def pack(self, request: Request, answer: SearchResults) -> Context:
        """Return a context packed from the hits of an answer."""
        statuses = await blocking(self._searcher.statuses, {hit.path for hit in answer.hits})
        cites = {path: status.cites for path, status in statuses.items() if status.cites}
        broken = await blocking(self._facts.broken_states, cites) if cites else {}
        tokenizer, share = open_tokenizer(request.tokenizer), self._origin_share()
        return await blocking(context_of_results, request, answer, tokenizer, statuses, broken, share)


class ContextBuilder:
    """Builds contexts for the calling principal, from the current tree or from a version."""

    def __init__(
        self,
        tree: Mount,
        searcher: Searcher,
        archive: Archive,
        scope: VersionScope,
        owner: Principal,
        summarise: Summarise | None,
        origin_share: Callable[[], float],
        facts: HeldFacts,
        sharing_note: Callable[[], str] = str,
    ) -> None:
        self._sharing_note = sharing_note
        self._facts = facts
        self._tree = tree
        self._searcher = searcher
        self._archive = archive
        self._scope = scope
        self._owner = owner
        self._constructor = Constructor(self._tree_view, summarise, origin_share)

    def _tree_view(self, as_of: str) -> TreeView:
        arguments = self._tree, self._searcher, self._archive, self._scope
        if as_of:
            return TreeAsOf(as_of, *arguments)
        tree = CurrentTree(*arguments, self._facts)
        if note := self._sharing_note():
            tree.notes = (note,)
        return tree

    async def build(self, request: Request, principal: str = "") -> Context:
        """Build a context for a request, for the named principal [default: the calling one]."""
        return await self._constructor.build(request, principal or str(acting_principal() or self._owner))

    async def copied(self, change: Put) -> tuple[Sequence[CopiedText], Mapping[str, bytes]]:
        """Return the texts of the tree that an agent's file repeats, and the marks to pass on; nothing for people."""
        principal = acting_principal()
        if principal is None or principal.is_person or change.path.parts[:1] not in (("memory",), ("pad",)):
            return (), {}
        text = read_text(change.data) or ""
        try:
            copies = await blocking(find_copied_text, self._searcher, str(change.path), text)
        except OSError as error:
            log.warning("a written text could not be compared with the index: %s", error)
            return (), {}
        doubtful = [await self._tree.metadata(Path.parse(copy.path)) for copy in copies if copy.untrusted]
        return copies, inherited_trust(doubtful)
