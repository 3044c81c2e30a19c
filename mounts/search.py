"""The mount search/<query>, whose paths are queries, and `.search/<query>` in every directory, limited to it.

A query's directory contains the passages `NN name:line heading` of the matching files, best first (`hit_files.py`);
links to these files in `files/`; `results.jsonl`; `context.md` within the default budget. Reachable by name only are
`context@TOKENS.md` and a hit by its bare rank (`01`).
If the searched files do not answer the question, the directory contains only `unknown.txt`.

A query may contain slashes: `search/CI/CD` is the query "CI/CD". A name below a query continues it unless files of the
directory could have that name.
"""

import errno
import json
import re
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Protocol

from ctxfs.context.build.constructor import Context
from ctxfs.context.build.request import Request, check_budget
from ctxfs.eventlog.record_marks import RECORD_NOTICE, is_record_path
from ctxfs.index.query import parse_query
from ctxfs.index.search.results import Generation, Hit, SearchResults
from ctxfs.index.search.snippets import line_snippet, question_words
from ctxfs.model.change import Change, MakeDir, Remove
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import invalid, not_found, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, encode_name, one_line, printable
from ctxfs.mounts.hit_files import HitFile, find_hit, name_hits
from ctxfs.policy.owners import Owners
from ctxfs.policy.scope import CacheScope
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal

_BUDGETED = re.compile(r"context@(\d{1,9})\.md")
# Names that shells, editors and agents probe for in any directory: a lookup of them starts no search.
_PROBED = frozenset(
    ("AGENTS.md", "CLAUDE.md", "GEMINI.md", "SKILL.md", "README", "README.md", "LICENSE", "Makefile", "Cargo.toml")
) | frozenset(
    ("package.json", "pyproject.toml", "node_modules", "autorun.inf", "desktop.ini", "Thumbs.db", "HEAD", "config")
)
# Names that only files in the directory of a query have: a bare rank, a passage or link, and any name with a suffix.
# They never continue a query, so that the name of a hit that moved is absent instead of a directory.
_RANK = re.compile(r"\d+\Z|\d\d+ ")
_SUFFIX = re.compile(r"\.[A-Za-z]\w{0,7}(?:\Z|:\d)")
_MAX_QUERY_PARTS = 8
_LINK_DIRECTORY = "files"
_UNKNOWN_FILE = "unknown.txt"
_MAX_CACHED_RESULTS = 24  # of up to half a megabyte


def is_query(name: str) -> bool:
    """Return True unless programs probe for `name`, or it contains no search terms."""
    if name.startswith((".", "~")) or name.endswith("~") or name in _PROBED:
        return False
    query = decode_query(name)
    # An unmatched pattern of a shell (`search/*`) has no search terms.
    return any(character.isalnum() or ord(character) > 127 for character in query) and not parse_query(query).is_empty


def decode_query(name: str) -> str:
    """Return the query in a directory name; `%2F` stands for a slash."""
    return printable(name).replace("%2F", "/").replace("%2f", "/")


def count_query_parts(parts: Sequence[str]) -> int:
    """Return the number of leading names that are the query; the others name a file of its directory."""
    count = 1
    while count < min(len(parts), _MAX_QUERY_PARTS) and is_query(parts[count]) and not _may_be_file(parts[count]):
        count += 1
    return count


def _may_be_file(name: str) -> bool:
    return name == _LINK_DIRECTORY or bool(_RANK.match(name) or _SUFFIX.search(name))


class SearchService(Protocol):
    """The searches of the calling principal."""

    async def ask(self, question: str, below: Path) -> SearchResults:
        """Return the best chunks below a directory for a question."""
        ...

    async def pack(self, request: Request, answer: SearchResults) -> Context:
        """Return a context packed from the hits of an answer."""
        ...

    def generation(self) -> Generation:
        """Return the state of the index; an answer of another generation may differ."""
        ...

    async def branch_key(self) -> Hashable:
        """Return a value that changes with the texts of the acting branch; None on main."""
        ...

    def evict(self) -> None:
        """Drop the texts of branches from memory."""
        ...


@dataclass(slots=True)
class _Page:
    """Search results, rendered once; contexts are added by budget on demand."""

    answer: SearchResults
    hits: Sequence[HitFile]
    results: bytes
    made_ns: int
    searched_at: float
    generation: Generation
    contexts: dict[int, bytes] = field(default_factory=dict)


class SearchView:
    """A factory for the search mount of any directory. Results are cached while the index is unchanged."""

    sealed = False
    of_directories = True

    def __init__(self, search: SearchService, scope: CacheScope, results: int, budget: int) -> None:
        """Open the view; `results` limits the hits of a query, `budget` the tokens of a plain context.md."""
        self._search = search
        self._scope = scope
        self._results = results
        self._budget = budget
        self._pages: OrderedDict[tuple[Hashable, Hashable, str, Path], _Page] = OrderedDict()

    def at(self, below: Path) -> Mount:
        """Return the mount of queries limited to the directory `below`."""
        return SearchMount(self, below, None)

    def root(self, folder: Mount, questions: "StoredQueries") -> Mount:
        """Return the mount search/, which lists the stored queries, directories of `folder`."""
        return SearchMount(self, ROOT, folder, questions)

    def evict(self) -> None:
        """Evict all results, because they hold texts of files."""
        self._pages.clear()
        self._search.evict()

    @property
    def budget(self) -> int:
        """Return the tokens of a plain context.md."""
        return self._budget

    async def page(self, question: str, below: Path) -> _Page:
        """Return the rendered results; search again after a change of the index."""
        key = (self._scope.cache_key(), await self._search.branch_key(), question, below)
        page = self._pages.get(key)
        now = time.monotonic()
        generation = self._search.generation()
        if page is not None and generation.may_reuse(page.generation, now - page.searched_at):
            self._pages.move_to_end(key)
            return page
        answer = await self._search.ask(question, below)
        page = _Page(
            answer, name_hits(answer.hits, self._results), render_results(answer), time.time_ns(), now, generation
        )
        self._pages[key] = page
        while len(self._pages) > _MAX_CACHED_RESULTS:
            self._pages.popitem(last=False)
        return page

    async def context(self, page: _Page, budget: int) -> bytes:
        """Return the packed results within `budget` tokens."""
        if budget not in page.contexts:
            request = Request((page.answer.query.text,), budget=check_budget(budget))
            page.contexts[budget] = (await self._search.pack(request, page.answer)).text.encode("utf-8", "replace")
        return page.contexts[budget]


class StoredQueries:
    """The stored queries that the calling principal sees: its own. Several principals may store the same query."""

    def __init__(self, owners: Owners, owner: str) -> None:
        """Use these owners; `owner` acts if there is no calling principal."""
        self._owners = owners
        self._owner = owner

    def is_shown(self, name: str) -> bool:
        """Return True for a query that the calling principal stored, and for people."""
        principal = acting_principal()
        return principal is None or self._owners.owns(principal, Path(("search", name)))

    def keep(self, name: str) -> None:
        """Add the calling principal to the owners of a query. Blocks."""
        path = Path(("search", name))
        self._owners.set_owners(path, self._owners.owners_of(path) | {self._owner_name()})

    def drop(self, name: str) -> bool:
        """Remove the calling principal from the owners; return True if none is left. A person removes all. Blocks."""
        path, principal = Path(("search", name)), acting_principal()
        remaining = (
            self._owners.owners_of(path) - {self._owner_name()}
            if principal is not None and not principal.is_person
            else frozenset()
        )
        if remaining:
            self._owners.set_owners(path, remaining)
        return not remaining

    def _owner_name(self) -> str:
        return str(acting_principal() or self._owner)


class SearchMount(Mount):
    """The queries of one directory. Reads have no side effects; only `touch search/<query>` is stored."""

    def __init__(
        self, view: SearchView, below: Path, folder: Mount | None, questions: StoredQueries | None = None
    ) -> None:
        self._view = view
        self._below = below
        self._folder = folder
        self._questions = questions

    async def stat(self, path: Path) -> Entry:
        """Return an entry; every query exists, and its files have the size of a read."""
        if path.is_root:
            return directory("", mode=0o755 if self._folder else 0o555)
        page = await self._page(path)
        if not _inner(path) or _is_link_directory(page, path):
            return directory(path.name, mtime_ns=page.made_ns)
        return await self._entry(page, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the stored queries at the root, or the passages, results and context of a query, and its links."""
        if path.is_root:
            if self._folder is None or self._questions is None:
                return []
            stored = [entry for entry in await self._folder.list(ROOT) if entry.is_dir]
            return [entry for entry in stored if self._questions.is_shown(entry.name)]
        page = await self._page(path)
        if _is_link_directory(page, path):
            return [self._link(page, path / hit.link_name, hit) for hit in page.hits if hit.text is not None]
        if _inner(path):
            raise path_error(errno.ENOTDIR, path)
        base = Path(path.parts)
        if page.answer.is_unknown:
            return [await self._entry(page, base / _UNKNOWN_FILE)]
        names = (*(hit.name for hit in page.hits), "results.jsonl")
        entries = [await self._entry(page, base / name) for name in names]
        if _is_link_directory(page, base / _LINK_DIRECTORY):
            entries.append(directory(_LINK_DIRECTORY, mtime_ns=page.made_ns))
        # Packing a context costs more than the search; a directory listing does not pay for its size.
        return [*entries, Entry("context.md", "file", version=f"{page.made_ns:x}", size=None, mtime_ns=page.made_ns)]

    async def read(self, path: Path) -> bytes:
        """Return results.jsonl, context.md or context@TOKENS.md."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        page = await self._page(path)
        if not _inner(path) or _is_link_directory(page, path):
            raise path_error(errno.EISDIR, path)
        return await self._content(page, path)

    async def apply(self, change: Change) -> None:
        """Store a query by MakeDir (`touch` or `mkdir`) or remove it by `rmdir`; results are read-only."""
        questions, name = self._questions, change.path.name
        if (
            self._folder is None
            or questions is None
            or len(change.path.parts) != 1
            or not isinstance(change, MakeDir | Remove)
        ):
            raise not_permitted(change.path, "answers are made from the index; copy them elsewhere to edit")
        if isinstance(change, MakeDir) and not is_query(change.path.name):
            raise invalid(change.path, "this is not a question: it has no words to look for")
        is_shown = questions.is_shown(name)
        if isinstance(change, Remove):
            if not is_shown:
                raise not_found(change.path)
            if await blocking(questions.drop, name):
                await self._folder.apply(change)
            return
        await blocking(questions.keep, name)
        try:
            await self._folder.apply(change)
        except FileExistsError:
            if is_shown:
                raise

    async def _page(self, path: Path) -> _Page:
        if not is_query(path.parts[0]):
            raise not_found(path)
        query = "/".join(path.parts[: count_query_parts(path.parts)])
        return await self._view.page(decode_query(query), self._below)

    async def _entry(self, page: _Page, path: Path) -> Entry:
        if _is_link_directory(page, path.parent) and (hit := find_hit(page.hits, path.name, is_link=True)) is not None:
            return self._link(page, path, hit)
        hit = find_hit(page.hits, path.name) if len(_inner(path)) == 1 else None
        if hit is not None and hit.text is None:
            return self._link(page, path, hit)
        data = await self._content(page, path)
        return snapshot(path.name, data, mtime_ns=page.made_ns, version=f"{page.made_ns:x}")

    def _link(self, page: _Page, path: Path, hit: HitFile) -> Entry:
        """Return the link to the file of a hit."""
        text = hit.target.seen_from(self._directory(path.parent))
        return Entry(path.name, "link", size=len(encode_name(text)), mtime_ns=page.made_ns, mode=0o777, target=text)

    async def _content(self, page: _Page, path: Path) -> bytes:
        if len(_inner(path)) == 1:
            if path.name == "results.jsonl":
                return page.results
            if path.name == _UNKNOWN_FILE and page.answer.is_unknown:
                return _explain_unknown(page.answer, self._below)
            if path.name == "context.md":
                return await self._view.context(page, self._view.budget)
            if match := _BUDGETED.fullmatch(path.name):
                return await self._view.context(page, int(match[1]))
            if (hit := find_hit(page.hits, path.name)) is not None and hit.text is not None:
                return hit.text
        raise not_found(path)

    def _directory(self, question: Path) -> Path:
        """Return the path of a query's directory in the whole tree."""
        base = Path(("search",)) if self._folder is not None else self._below / ".search"
        return base.join(question)


def _inner(path: Path) -> tuple[str, ...]:
    """Return the names behind those of the query."""
    return path.parts[count_query_parts(path.parts) :]


def _is_link_directory(page: _Page, path: Path) -> bool:
    """Return True for `files/` in the directory of a query with hits in files."""
    is_named = _inner(path) == (_LINK_DIRECTORY,)
    return is_named and any(hit.text is not None for hit in page.hits)


def _explain_unknown(answer: SearchResults, below: Path) -> bytes:
    """Return the text of unknown.txt: the searched files, the reasons for the verdict, and remedies."""
    searched = "all files" if below.is_root else f"the files below '{printable(str(below))}'"
    p = answer.answer.p
    lines = [
        "Unknown: the searched files do not seem to answer this question.",
        "",
        f"question: {one_line(answer.query.text)}",
        f"searched: {searched} that you may read",
        *([f"probability of an answer: {p:.2f}"] if p is not None else []),
        *(f"reason: {reason}" for reason in answer.answer.reasons),
        *(f"remark: {one_line(remark)}" for remark in answer.remarks),
        "",
        "To continue: use words that the files use, ask in a directory above, or add the missing files (ctxfs add).",
        f"The {len(answer.hits)} nearest passages are in results.jsonl in this directory, each with its probability p.",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def render_results(answer: SearchResults) -> bytes:
    """Return JSON lines: the status with notes on unsearched parts, then one line for each hit."""
    head = {
        "status": "partial" if answer.notes else "ok",
        "notes": list(answer.notes),
        "remarks": list(answer.remarks),
        "complete": answer.is_complete,
        "answer": answer.answer.as_record(),
        "question": printable(answer.query.text),
        "hits": len(answer.hits),
    }
    lines, terms = [json.dumps(head, ensure_ascii=False)], question_words(answer.query)
    lines += [
        json.dumps({"rank": rank, **hit_record(hit, terms)}, ensure_ascii=False)
        for rank, hit in enumerate(answer.hits, 1)
    ]
    return ("\n".join(lines) + "\n").encode()


def hit_record(hit: Hit, terms: Sequence[str]) -> dict[str, object]:
    """Return a hit as plain values; `shares` add up to the score, `terms` are the words to show in the snippet."""
    chunk = hit.chunk
    return {
        "path": printable(chunk.path),
        **({"raw": encode_name(chunk.path).hex()} if printable(chunk.path) != chunk.path else {}),
        "first": chunk.first,
        "last": chunk.last,
        "heading": printable(chunk.heading),
        "kind": chunk.kind,
        "author": printable(chunk.author),
        "date": date.fromordinal(chunk.day).isoformat() if chunk.day else "",
        "score": round(hit.score, 4),
        "signals": {name: round(value, 4) for name, value in hit.signals.items()},
        "shares": {name: round(value, 4) for name, value in hit.shares.items()},
        "p": None if hit.p is None else round(hit.p, 4),
        "relevant": hit.is_relevant,
        "why": hit.why,
        **({"record": RECORD_NOTICE} if is_record_path(chunk.path) else {}),
        **({"said": datetime.fromtimestamp(chunk.said, UTC).isoformat()} if chunk.said is not None else {}),
        **({"valid_until": hit.valid_until} if hit.valid_until else {}),
        "snippet": printable(line_snippet(chunk.text, terms)),
    }
