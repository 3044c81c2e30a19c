"""Incremental delivery of a context to a window: as a stream of texts, and as deltas since the last delivery.

Pure except for the tokenizer. This is the Updater of arXiv 2512.05470: a static snapshot is `context.md`, `stream` is
incremental, `delta.md` refreshes. A window is the content that an agent has received so far. This module does not
identify the agent.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ctxfs.context.build.constructor import Context
from ctxfs.context.build.manifest import digest
from ctxfs.context.build.pack import Count, largest_fitting
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.render import Source, fenced, render, render_sources, sources_of
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.eventlog.record_marks import RECORD_LABEL, is_record_path
from ctxfs.model.errors import invalid
from ctxfs.model.path import lines_of, one_line

Change = Literal["add", "replace", "drop"]
DECAY = 0.7  # factor on the relevance of a piece that a refresh no longer requests, for each refresh
_DEFAULT_PIECE_TOKENS = 1000

Render = Callable[[Sequence[Piece]], str]
# A piece → its present version in its source: the same, moved, or None if its text is gone.
Present = Callable[[Piece], Piece | None]


def piece_budget(requested: int, budget: int) -> int:
    """Return the tokens of one text of a stream."""
    return min(requested or _DEFAULT_PIECE_TOKENS, budget) if budget else requested or _DEFAULT_PIECE_TOKENS


@dataclass(frozen=True, slots=True)
class Part:
    """A text of a stream, and the pieces that end in it."""

    text: str
    ends: Sequence[Piece]


def split_stream(pieces: Sequence[Piece], budget: int, query: str, count: Count) -> list[Part]:
    """Split pieces, best first, into texts of at most `budget` tokens each.

    Source numbers in citations are the same throughout the stream. A piece that is longer than one text continues in
    the next ones. It is cut between lines, else between words, else between letters.
    """
    numbers = {source.path: source.number for source in sources_of(pieces)}

    def rendered(part: Sequence[Piece]) -> str:
        sources = [Source(numbers[source.path], source.path, source.pieces) for source in sources_of(part)]
        return render_sources(query, (), sources)

    out: list[Part] = []
    part: list[Piece] = []
    ends: list[Piece] = []
    for piece in pieces:
        rest: Piece | None = piece
        while rest is not None:
            if count(rendered([*part, rest])) <= budget:
                part.append(rest)
                ends.append(piece)
                break
            if part:
                out.append(Part(rendered(part), ends))
                part, ends = [], []
                continue
            head, rest = _cut_piece(rest, lambda candidate: count(rendered([candidate])) <= budget)
            if head is None:
                raise invalid(
                    "piece", f"piece = {budget}: not even one letter of '{piece.path}' fits; allow more tokens"
                )
            out.append(Part(rendered([head]), ()))
    if part:
        out.append(Part(rendered(part), ends))
    return out


def _cut_piece(piece: Piece, fits: Callable[[Piece], bool]) -> tuple[Piece | None, Piece | None]:
    """Return the longest start of a piece that fits, and the rest, cut at a line, else at a word, else inside one."""
    return _cut_at("\n", piece, fits) or _cut_at(" ", piece, fits) or _cut_at("", piece, fits) or (None, None)


def _cut_at(separator: str, piece: Piece, fits: Callable[[Piece], bool]) -> tuple[Piece, Piece] | None:
    parts = piece.text.split(separator) if separator else list(piece.text)
    length = largest_fitting(len(parts) - 1, lambda end: fits(_slice_piece(piece, separator, parts, 0, end)))
    if length and fits(head := _slice_piece(piece, separator, parts, 0, length)):
        return head, _slice_piece(piece, separator, parts, length, len(parts))
    return None


def _slice_piece(piece: Piece, separator: str, parts: Sequence[str], start: int, stop: int) -> Piece:
    lines = separator == "\n"
    first = piece.first + start if lines else piece.first
    last = min(piece.first + stop - 1, piece.last) if lines else piece.last
    return replace(piece, text=separator.join(parts[start:stop]), first=first, last=max(first, last), cut=True)


@dataclass(frozen=True, slots=True)
class DeliveredPiece:
    """A delivered piece with its relevance (0 to 1) and the count of refreshes since it was last requested."""

    piece: Piece
    relevance: float
    age: int = 0

    def worth(self, count: Count) -> float:
        """Return the relevance for each token, reduced by age; the smallest is evicted first."""
        return self.relevance * DECAY**self.age / max(1, count(self.piece.text))


@dataclass(frozen=True, slots=True)
class Window:
    """The content delivered to one reader.

    `of` is the SHA-256 of the context that is streamed, `cursor` the index of its next text. `given` are the digests
    delivered from it, `seen` those from earlier contexts. Changed pieces are delivered, unchanged ones are not
    delivered again. `deliveries` counts refreshes; `held` are the pieces that they left in the window.
    """

    of: str = ""
    cursor: int = 0
    given: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    deliveries: int = 0
    held: tuple[DeliveredPiece, ...] = ()

    def start_stream(self, sha256: str) -> "Window":
        """Return the window for streaming a context; a new context starts at its first undelivered piece."""
        if self.of == sha256:
            return self
        return replace(self, of=sha256, cursor=0, seen=(*self.seen, *self.given), given=())

    def advance(self, part: Part) -> "Window":
        """Return the window after one more text."""
        return replace(self, cursor=self.cursor + 1, given=(*self.given, *(digest(piece.text) for piece in part.ends)))


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a window with its reason; `old` is the replaced or dropped piece."""

    change: Change
    reason: str
    piece: Piece | None = None
    old: Piece | None = None

    @property
    def at(self) -> str:
        """Return the range that the step is about."""
        piece = self.piece or self.old
        assert piece is not None
        return _span_of(piece)


@dataclass(frozen=True, slots=True)
class Delta:
    """The pieces to add, replace and drop in a window, and the resulting window."""

    steps: Sequence[Step]
    window: Window
    kept: int = field(default=0)


def refresh(
    window: Window, chosen: Sequence[Piece], present: Present, budget: int, render: Render, count: Count
) -> Delta:
    """Bring a window up to a context: `chosen` goes in, best first; other valid pieces stay while there is space.

    `chosen` fits the budget by itself. The pieces with the lowest relevance for each token are evicted. Relevance
    decays with every refresh that does not request the piece.
    """
    total = max(1, len(chosen))
    fresh = [DeliveredPiece(piece, (total - rank) / total) for rank, piece in enumerate(chosen)]
    previous = list(window.held)
    steps: list[Step] = []
    unchanged = 0
    unmatched: list[DeliveredPiece] = []
    for entry in fresh:
        same = next((old for old in previous if _is_same(old.piece, entry.piece)), None)
        if same is not None:
            previous.remove(same)
            unchanged += 1
        else:
            unmatched.append(entry)
    for entry in unmatched:
        replaced = next((old for old in previous if _replaces(entry.piece, old.piece)), None)
        if replaced is not None:
            previous.remove(replaced)
            steps.append(Step("replace", "the source has changed", entry.piece, replaced.piece))
        else:
            steps.append(
                Step("add", "answers the question" if entry.piece.why == "search" else entry.piece.why, entry.piece)
            )
    aged: list[DeliveredPiece] = []
    for old in previous:
        current = present(old.piece)
        if current is None:
            steps.append(Step("drop", "stale: the source no longer says this", old=old.piece))
        else:
            aged.append(DeliveredPiece(current, old.relevance, old.age + 1))
    aged.sort(key=lambda entry: (-entry.worth(count), entry.piece.path, entry.piece.first))
    while aged and count(render([entry.piece for entry in (*fresh, *aged)])) > budget:
        steps.append(Step("drop", "evicted: least relevance for its tokens", old=aged.pop().piece))
    order = {"drop": 0, "replace": 1, "add": 2}
    steps.sort(key=lambda step: order[step.change])
    remaining = (*fresh, *aged)
    return Delta(steps, replace(window, deliveries=window.deliveries + 1, held=remaining), unchanged + len(aged))


def _is_same(old: Piece, new: Piece) -> bool:
    return old.path == new.path and old.text == new.text


def _replaces(new: Piece, old: Piece) -> bool:
    """Return True if a piece replaces another: lines in common, or the same heading."""
    if new.path != old.path or not new.path:
        return False
    return (new.first <= old.last and old.first <= new.last) or (bool(new.heading) and new.heading == old.heading)


def split_context(context: Context, window: Window) -> list[Part]:
    """Split the matched pieces of a context that a window lacks into texts, best first. Blocks.

    Pieces beyond the budget are included, because a reader can stop at any time.
    """
    remaining = [exclusion.piece for exclusion in context.plan.excluded if exclusion.reason in ("budget", "quota")]
    seen = set(window.seen)
    pieces = [piece for piece in (*context.plan.chosen, *remaining) if digest(piece.text) not in seen]
    request = context.request
    return split_stream(
        pieces, piece_budget(request.piece, request.budget), request.title, open_tokenizer(request.tokenizer).count
    )


def refresh_window(context: Context, window: Window, reread: Sequence[Piece | None]) -> Delta:
    """Bring a window up to a context; `reread` are its pieces at their present positions. Blocks."""
    request = context.request
    present = {id(entry.piece): current for entry, current in zip(window.held, reread, strict=True)}

    def rendered(pieces: Sequence[Piece]) -> str:
        return render(request.title, context.notes, pieces, request.format, request.order)

    return refresh(
        window,
        context.plan.chosen,
        lambda piece: present[id(piece)],
        request.budget,
        rendered,
        open_tokenizer(request.tokenizer).count,
    )


def render_delta(delta: Delta) -> str:
    """Return delta.md: the dropped, the replaced and the added pieces."""
    counts = {name: sum(step.change == name for step in delta.steps) for name in ("drop", "replace", "add")}
    lines = [f"# Refresh {delta.window.deliveries}"]
    if not delta.steps:
        return f"{lines[0]}\n\nNothing has changed: {delta.kept} pieces stay.\n"
    lines.append(
        f"> {counts['drop']} to drop, {counts['replace']} to replace, {counts['add']} to add; {delta.kept} stay as they are"
    )
    if counts["drop"]:
        lines += [
            "\n## Drop\n",
            *(f"- {one_line(step.at)}: {step.reason}" for step in delta.steps if step.change == "drop"),
        ]
    if counts["replace"]:
        lines.append("\n## Replace\n")
        for step in delta.steps:
            if step.change == "replace" and step.piece is not None and step.old is not None:
                is_record = is_record_path(step.piece.path)
                mark = f" {RECORD_LABEL}" if is_record else ""
                lines += [
                    f"- {one_line(_span_of(step.old))} ({step.reason}) by {one_line(step.at)}{mark}:",
                    fenced(lines_of(step.piece.text) if is_record else step.piece.text),
                    "",
                ]
    text = "\n".join(lines).rstrip("\n") + "\n"
    added = [step.piece for step in delta.steps if step.change == "add" and step.piece is not None]
    return text + ("\n# Add\n" + render_sources("", (), sources_of(added)) if added else "")


def dump_window(window: Window) -> bytes:
    """Return window.json, from which a restart continues."""
    entries = [
        {
            "path": entry.piece.path, "first": entry.piece.first, "last": entry.piece.last, "heading": entry.piece.heading,
            "kind": entry.piece.kind, "why": entry.piece.why, "day": entry.piece.day, "cut": entry.piece.cut, "text": entry.piece.text,
            "origin": list(entry.piece.origin), "relevance": round(entry.relevance, 4), "age": entry.age,
        }
        for entry in window.held
    ]  # fmt: skip
    stream = {"of": window.of, "cursor": window.cursor, "given": window.given, "seen": window.seen}
    body = {"stream": stream, "deliveries": window.deliveries, "held": entries}
    return (json.dumps(body, indent=1) + "\n").encode()  # in ASCII: names of files need not be UTF-8


def load_window(data: bytes) -> Window:
    """Parse window.json; a damaged file is an empty window, so that everything is delivered again."""
    try:
        body = json.loads(data.decode("utf-8"))
        entries = tuple(
            DeliveredPiece(_parse_piece(item), float(item["relevance"]), int(item["age"])) for item in body["held"]
        )
        stream = body["stream"]
        given, seen = (tuple(map(str, stream[name])) for name in ("given", "seen"))
        return Window(
            str(stream["of"]), max(0, int(stream["cursor"])), given, seen, max(0, int(body["deliveries"])), entries
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Window()


def _parse_piece(item: Mapping[str, object]) -> Piece:
    names = ("path", "first", "last", "text", "heading", "kind", "why", "day", "cut")
    return Piece(**{name: item[name] for name in names}, origin=tuple(item["origin"]))  # type: ignore[arg-type]


def _span_of(piece: Piece) -> str:
    return f"{piece.path}:{piece.first}-{piece.last}" if piece.path else "summary"
