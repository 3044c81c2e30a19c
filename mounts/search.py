"""search/<question>: a path that is a question. Also `.search/<question>` in every directory, asked below it only.

A question's directory holds `NN name` links to the files that answer, best first; `results.jsonl`; `context.md` within the
default budget; and, by name only, `context@TOKENS.md` and a link by its bare rank (`01`).
"""

import errno
import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import date

from ctxfs.context.build.constructor import Context
from ctxfs.context.build.request import Request, check_budget
from ctxfs.index.query import parse_query
from ctxfs.index.search.results import Generation, Hit, SearchResults
from ctxfs.model.change import Change, MakeDir, Remove
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import invalid, not_found, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, encode_name, printable
from ctxfs.policy.owners import Owners
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal

Ask = Callable[[str, Path], Awaitable[SearchResults]]
Pack = Callable[[Request, SearchResults], Awaitable[Context]]

_BUDGETED = re.compile(r"context@(\d{1,9})\.md")
_RANKED = re.compile(r"(\d{2,3})(?: .*)?", re.DOTALL)
# Names that shells, editors and agents look for in any directory: looking for them asks nothing.
_PROBED = frozenset(
    ("AGENTS.md", "CLAUDE.md", "GEMINI.md", "SKILL.md", "README", "README.md", "LICENSE", "Makefile", "Cargo.toml")
) | frozenset(
    ("package.json", "pyproject.toml", "node_modules", "autorun.inf", "desktop.ini", "Thumbs.db", "HEAD", "config")
)
_KEEP_ANSWERS = 24  # of up to half a megabyte
_MOST_RESULTS = 100  # a question may have four times as many candidates


def is_question(name: str) -> bool:
    """True unless `name` is something that programs probe for, or has nothing to look for."""
    if name.startswith((".", "~")) or name.endswith("~") or name in _PROBED:
        return False
    return not parse_query(decode_question(name)).is_empty


def decode_question(name: str) -> str:
    """The question that a directory name asks; `%2F` stands for a slash."""
    return printable(name).replace("%2F", "/").replace("%2f", "/")


@dataclass(slots=True)
class _Page:
    """An answer, rendered once; contexts by budget are added as they are asked for."""

    answer: SearchResults
    links: Sequence[tuple[str, Path]]
    results: bytes
    made_ns: int
    asked_at: float
    generation: Generation
    contexts: dict[int, bytes] = field(default_factory=dict)


class SearchView:
    """Makes the search mount of any directory. Answers are cached while the index stays as it is."""

    sealed = False
    of_directories = True

    def __init__(
        self,
        ask: Ask,
        pack: Pack,
        generation: Callable[[], Generation],
        results: int,
        budget: int,
        sight: Callable[[], Hashable] = lambda: None,
    ) -> None:
        """`sight`: what tells apart the answers of those who may see different things."""
        self._sight = sight
        self._ask = ask
        self._pack = pack
        self._generation = generation
        self._results = results
        self._budget = budget
        self._pages: OrderedDict[tuple[Hashable, str, Path], _Page] = OrderedDict()

    def at(self, below: Path) -> Mount:
        """The questions asked below `below`."""
        return SearchMount(self, below, None)

    def root(self, kept: Mount, questions: "KeptQuestions") -> Mount:
        """`search/` itself, which lists the questions kept as directories of `kept`."""
        return SearchMount(self, ROOT, kept, questions)

    def evict(self) -> None:
        """Keep no answer: they hold texts."""
        self._pages.clear()

    @property
    def budget(self) -> int:
        """Tokens in a plain context.md."""
        return self._budget

    async def page(self, question: str, below: Path) -> _Page:
        """The rendered answer; asked again when there is something new."""
        key = (self._sight(), question, below)
        page = self._pages.get(key)
        now = time.monotonic()
        generation = self._generation()
        if page is not None and generation.allows(page.generation, now - page.asked_at):
            self._pages.move_to_end(key)
            return page
        answer = await self._ask(question, below)
        page = _Page(
            answer, name_links(answer.hits, self._results), render_results(answer), time.time_ns(), now, generation
        )
        self._pages[key] = page
        while len(self._pages) > _KEEP_ANSWERS:
            self._pages.popitem(last=False)
        return page

    async def context(self, page: _Page, budget: int) -> bytes:
        """The packed answer within `budget` tokens."""
        if budget not in page.contexts:
            request = Request((page.answer.query.text,), budget=check_budget(budget))
            page.contexts[budget] = (await self._pack(request, page.answer)).text.encode("utf-8", "replace")
        return page.contexts[budget]


class KeptQuestions:
    """Which kept questions the acting principal sees: what somebody asks is theirs. Several may keep the same question."""

    def __init__(self, owners: Owners, owner: str) -> None:
        """`owner` acts when nobody is named."""
        self._owners = owners
        self._owner = owner

    def is_shown(self, name: str) -> bool:
        """True for a question that the acting principal keeps, and for people."""
        principal = acting_principal()
        return principal is None or self._owners.owns(principal, Path(("search", name)))

    def keep(self, name: str) -> None:
        """The acting principal keeps a question, too. Blocks."""
        place = Path(("search", name))
        self._owners.give(place, self._owners.of(place) | {self._me()})

    def drop(self, name: str) -> bool:
        """The acting principal keeps it no more; True if nobody does. A person drops it for everyone. Blocks."""
        place, principal = Path(("search", name)), acting_principal()
        left = (
            self._owners.of(place) - {self._me()} if principal is not None and not principal.is_person else frozenset()
        )
        if left:
            self._owners.give(place, left)
        return not left

    def _me(self) -> str:
        return str(acting_principal() or self._owner)


class SearchMount(Mount):
    """The questions of one directory. Looking has no side effects; only `touch search/<question>` is remembered."""

    def __init__(
        self, view: SearchView, below: Path, kept: Mount | None, questions: KeptQuestions | None = None
    ) -> None:
        self._view = view
        self._below = below
        self._kept = kept
        self._questions = questions

    async def stat(self, path: Path) -> Entry:
        """Every question exists; its files have the size that a read returns."""
        if path.is_root:
            return directory("", mode=0o755 if self._kept else 0o555)
        page = await self._page(path)
        if len(path.parts) == 1:
            return directory(path.name, mtime_ns=page.made_ns)
        return await self._entry(page, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Kept questions at the top; links, results and context in a question."""
        if path.is_root:
            if self._kept is None or self._questions is None:
                return []
            kept = [entry for entry in await self._kept.list(ROOT) if entry.is_dir]
            return [entry for entry in kept if self._questions.is_shown(entry.name)]
        page = await self._page(path)
        if len(path.parts) > 1:
            raise path_error(errno.ENOTDIR, path)
        place = Path(path.parts)
        names = (*(name for name, _ in page.links), "results.jsonl")
        entries = [await self._entry(page, place / name) for name in names]
        # Packing a context costs more than finding it; who only lists does not pay for its size.
        return [*entries, Entry("context.md", "file", version=f"{page.made_ns:x}", size=None, mtime_ns=page.made_ns)]

    async def read(self, path: Path) -> bytes:
        """results.jsonl, context.md or context@TOKENS.md."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        page = await self._page(path)
        if len(path.parts) == 1:
            raise path_error(errno.EISDIR, path)
        return await self._content(page, path)

    async def apply(self, change: Change) -> None:
        """MakeDir keeps a question listed (`touch` or `mkdir`), `rmdir` forgets it; answers cannot be changed."""
        questions, name = self._questions, change.path.name
        if (
            self._kept is None
            or questions is None
            or len(change.path.parts) != 1
            or not isinstance(change, MakeDir | Remove)
        ):
            raise not_permitted(change.path, "answers are made from the index; copy them elsewhere to edit")
        if isinstance(change, MakeDir) and not is_question(change.path.name):
            raise invalid(change.path, "this is not a question: it has no words to look for")
        is_shown = questions.is_shown(name)
        if isinstance(change, Remove):
            if not is_shown:
                raise not_found(change.path)
            if await blocking(questions.drop, name):
                await self._kept.apply(change)
            return
        await blocking(questions.keep, name)
        try:
            await self._kept.apply(change)
        except FileExistsError:
            if is_shown:
                raise

    async def _page(self, path: Path) -> _Page:
        name = path.parts[0]
        if not is_question(name):
            raise not_found(path)
        return await self._view.page(decode_question(name), self._below)

    async def _entry(self, page: _Page, path: Path) -> Entry:
        target = _link_target(page, path.name)
        if target is not None and len(path.parts) == 2:
            text = target.seen_from(self._directory(path.parent))
            return Entry(path.name, "link", size=len(encode_name(text)), mtime_ns=page.made_ns, mode=0o777, target=text)
        data = await self._content(page, path)
        return snapshot(path.name, data, mtime_ns=page.made_ns, version=f"{page.made_ns:x}")

    async def _content(self, page: _Page, path: Path) -> bytes:
        if len(path.parts) == 2:
            if path.name == "results.jsonl":
                return page.results
            if path.name == "context.md":
                return await self._view.context(page, self._view.budget)
            if found := _BUDGETED.fullmatch(path.name):
                return await self._view.context(page, int(found[1]))
        raise not_found(path)

    def _directory(self, question: Path) -> Path:
        """Where in the whole tree a question's directory is."""
        at = Path(("search",)) if self._kept is not None else self._below / ".search"
        return at.join(question)


def _link_target(page: _Page, name: str) -> Path | None:
    for link, target in page.links:
        if link == name:
            return target
    found = _RANKED.fullmatch(name)
    if found and name == found[1] and 0 < int(found[1]) <= len(page.links):
        return page.links[int(found[1]) - 1][1]
    return None


def name_links(hits: Sequence[Hit], limit: int) -> list[tuple[str, Path]]:
    """`NN name` and target of the best `limit` files, each once, in the order of their best hit."""
    paths = list(dict.fromkeys(hit.path for hit in hits))[:limit]
    width = max(2, len(str(len(paths))))
    return [(_link_name(f"{rank:0{width}} ", path), Path(tuple(path.split("/")))) for rank, path in enumerate(paths, 1)]


def _link_name(prefix: str, path: str) -> str:
    """The rank and the file's name, cut in the middle to 255 bytes so that the extension stays."""
    name = prefix + path.rsplit("/", 1)[-1]
    if len(encode_name(name)) <= 255:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = dot + extension if dot and len(encode_name(extension)) < 20 else ""
    kept = encode_name(stem if tail else name)[: 255 - len(encode_name(tail))]
    return kept.decode("utf-8", "ignore") + tail


def render_results(answer: SearchResults) -> bytes:
    """JSON lines: first the status (what could not be looked at, if anything), then one line for each of the best hits."""
    head = {
        "status": "partial" if answer.notes else "ok",
        "notes": list(answer.notes),
        "remarks": list(answer.remarks),
        "complete": answer.is_complete,
        "question": printable(answer.query.text),
        "hits": len(answer.hits),
    }
    lines = [json.dumps(head, ensure_ascii=False)]
    lines += [
        json.dumps({"rank": rank, **hit_record(hit)}, ensure_ascii=False) for rank, hit in enumerate(answer.hits, 1)
    ]
    return ("\n".join(lines) + "\n").encode()


def hit_record(hit: Hit) -> dict[str, object]:
    """A hit as plain values; `shares` add up to the score."""
    chunk = hit.chunk
    return {
        "path": printable(chunk.path),
        "first": chunk.first,
        "last": chunk.last,
        "heading": printable(chunk.heading),
        "kind": chunk.kind,
        "author": printable(chunk.author),
        "date": date.fromordinal(chunk.day).isoformat() if chunk.day else "",
        "score": round(hit.score, 4),
        "signals": {name: round(value, 4) for name, value in hit.signals.items()},
        "shares": {name: round(value, 4) for name, value in hit.shares.items()},
        "why": _why(hit),
        "snippet": printable(" ".join(chunk.text[:480].split())[:160]),
    }


def _why(hit: Hit) -> str:
    """The signals that speak for a hit, the strongest first."""
    for_it = sorted((name for name, share in hit.shares.items() if share > 0), key=lambda name: -hit.shares[name])
    return ", ".join(for_it or sorted(hit.signals))
