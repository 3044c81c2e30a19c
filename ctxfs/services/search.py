"""Search for the calling principal: ranked questions, filters, exact search, names, and contexts built from answers."""

import errno
import itertools
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

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
from ctxfs.index.search.grep import GrepOutput, GrepResult, Line, Matcher, split_paths
from ctxfs.index.search.grep_pool import GrepPool
from ctxfs.index.search.history_views import selection_of
from ctxfs.index.search.regex_literals import Needed
from ctxfs.index.search.results import Generation, SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.change import Put
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.engine import is_call_record
from ctxfs.policy.evaluate import tree_path_of
from ctxfs.services.branch_texts import BranchText, BranchTexts, BranchTree, no_such_branch
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.sources import Sources
from ctxfs.threads import blocking, in_turn
from ctxfs.toolbox import Toolbox
from ctxfs.versions.archive import Archive
from ctxfs.vfs.branch_paths import is_branched
from ctxfs.vfs.caller_context import BranchRef, acting_branch, acting_principal, in_branch

if TYPE_CHECKING:
    from ctxfs.index.search.overlay import Overlay

log = logging.getLogger(__name__)

_MAX_REMARKS = 10


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
        texts: BranchTexts,
        sharing_note: Callable[[], str] = str,
    ) -> None:
        """`origin_share` returns the share of a context that the pieces of one origin may use.

        `sharing_note` returns why versions of other machines may be missing; empty if none is known to.
        """
        self.texts = texts
        self._sharing_note = sharing_note
        self._last_note = ""
        self._facts = facts
        self._origin_share = origin_share
        self._searcher = searcher
        self._tools = tools
        self._sources = sources
        self._grep_pool = grep_pool
        self._owner = owner

    def evict(self) -> None:
        """Drop the texts of branches from memory."""
        self.texts.evict()

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
        text = await self._branch_text()
        results = await blocking(self._searcher.search, query, below, MAX_CANDIDATES, _overlay_of(text))
        note = self._sharing_note()
        notes = [*([] if text is None else _remarks_on(text)), *results.remarks, *([note] if note else [])]
        return replace(results, remarks=tuple(notes))

    async def branch_key(self) -> Hashable:
        """Return a value that changes with the texts of the acting branch; None on main."""
        return None if acting_branch() is None else await in_turn(self.texts.key)

    async def _branch_text(self) -> BranchText | None:
        return None if acting_branch() is None else await blocking(self.texts.current)

    async def find(self, filters: str, below: Path, limit: int) -> list[str]:
        """Return the paths of files whose attributes satisfy `filters`, newest first. EINVAL without a filter."""
        text = await self._branch_text()
        return await blocking(self._searcher.find_by_filters, parse_query(filters), below, limit, _overlay_of(text))

    async def grep(self, matcher: Matcher, below: Path, limit: int, only: GrepOutput, *, hidden: bool) -> GrepResult:
        """Return matching lines in the order of paths. Only files that can match by the trigrams of the index are read.

        Below a view of an agent, only lines of its records.
        """
        matcher = matcher.restricted_to(selection_of(below).principal)
        text = await self._branch_text()
        paths = await self._candidates(matcher.needed, below, text)
        lines, faults = await self._scan(paths, text, matcher, only, limit, hidden)
        if behind := self._searcher.coverage_note():
            faults = [*faults, behind]
        return GrepResult(lines[:limit], faults, more=len(lines) > limit)

    async def glob(self, pattern: str, below: Path, limit: int) -> list[str]:
        """Return the paths of indexed files that match a pattern such as `**/*.md`, in order. EINVAL for a malformed one."""
        matches = glob_matcher(pattern)
        paths = await self._candidates([], below, await self._branch_text())
        return list(itertools.islice(filter(matches, paths), limit))

    async def _scan(
        self,
        paths: Sequence[str],
        text: BranchText | None,
        matcher: Matcher,
        only: GrepOutput,
        limit: int,
        hidden: bool,
    ) -> tuple[list[Line], list[str]]:
        """Return the matching lines, and files with reasons why they could not be read; differing files from git."""
        principal, roots = str(acting_principal() or self._owner), self._sources.indexed_roots()
        on_main = paths if text is None else [path for path in paths if path not in text.states]
        files = split_paths(on_main, roots, hidden=hidden)
        lines, faults = await self._grep_pool.scan(principal, files, matcher, only, limit)
        if text is None:
            return lines, faults
        shown = [path for path in paths if path in text.states]
        shown = [path for path in shown if hidden or not any(part.startswith(".") for part in path.split("/"))]
        with self.texts.files(text, shown, roots) as copies:
            more, reasons = await self._grep_pool.scan(principal, copies, matcher, only, limit)
        too_large = [f"{path}: too large to search in a branch" for path in sorted(text.too_large)]
        return sorted([*lines, *more], key=lambda line: line.path), [*faults, *reasons, *too_large]

    async def _candidates(self, needed: Needed, below: Path, text: BranchText | None) -> Sequence[str]:
        paths = await blocking(self._searcher.candidate_files, needed, below, _overlay_of(text))
        if paths is None:
            raise path_error(errno.EAGAIN, below, "nothing has been indexed yet: try again in a moment")
        return paths

    async def pack(self, request: Request, answer: SearchResults) -> Context:
        """Return a context packed from the hits of an answer."""
        text = await self._branch_text()
        statuses = await blocking(self._searcher.statuses, {hit.path for hit in answer.hits}, _overlay_of(text))
        cites = {path: status.cites for path, status in statuses.items() if status.cites}
        broken = await blocking(self._facts.broken_states, cites) if cites else {}
        tokenizer, share = open_tokenizer(request.tokenizer), self._origin_share()
        return await blocking(context_of_results, request, answer, tokenizer, statuses, broken, share)


def _overlay_of(text: BranchText | None) -> "Overlay | None":
    return None if text is None else text.overlay


def _remarks_on(text: BranchText) -> Sequence[str]:
    return [f"too large to search in a branch: {path}" for path in sorted(text.too_large)[:_MAX_REMARKS]]


class ContextBuilder:
    """Builds contexts for the calling principal, from the current tree or from a version."""

    def __init__(
        self,
        tree: Mount,
        searcher: Searcher,
        archive: Archive,
        scope: CallerScope,
        texts: BranchTexts,
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
        self._texts = texts
        self._owner = owner
        self._constructor = Constructor(self._tree_view, summarise, origin_share)

    def _tree_view(self, as_of: str) -> TreeView:
        arguments = self._tree, self._searcher, self._archive, self._scope
        if as_of:
            return TreeAsOf(as_of, *arguments)
        in_branch_tree = acting_branch() is not None
        tree = BranchTree(*arguments, self._texts) if in_branch_tree else CurrentTree(*arguments, self._facts)
        if note := self._sharing_note():
            tree.notes = (*tree.notes, note)
        return tree

    async def build(self, request: Request, principal: str = "") -> Context:
        """Build a context for a request, for the named principal [default: the calling one]."""
        by = principal or str(acting_principal() or self._owner)
        branch = acting_branch()
        if request.branch:
            branch = await self._named_branch(request, branch)
        elif branch is not None:
            request = replace(request, branch=branch.name)
        with in_branch(branch):
            return await self._constructor.build(request, by)

    async def _named_branch(self, request: Request, acting: BranchRef | None) -> BranchRef:
        """Return the branch that a request names. Raise OSError ENOENT or EINVAL; agents see no branch but their own."""
        if request.as_of:
            raise invalid("branch", "as_of and branch exclude each other: as_of is a time of main")
        if acting is not None and acting.name == request.branch:
            return acting
        if (acting is not None and acting.is_own) or not await in_turn(self._archive.branches.exists, request.branch):
            raise no_such_branch(request.branch)
        return BranchRef(request.branch)

    async def copied(self, change: Put) -> tuple[Sequence[CopiedText], Mapping[str, bytes]]:
        """Return the texts of the tree that an agent's file repeats, and the marks to pass on; nothing for people."""
        principal = acting_principal()
        if principal is None or principal.is_person or not is_branched(tree_path_of(change.path)):
            return (), {}
        text = read_text(change.data) or ""
        try:
            copies = await blocking(find_copied_text, self._searcher, str(tree_path_of(change.path)), text)
        except OSError as error:
            log.warning("a written text could not be compared with the index: %s", error)
            return (), {}
        doubtful = [await self._tree.metadata(Path.parse(copy.path)) for copy in copies if copy.untrusted]
        return copies, inherited_trust(doubtful)
