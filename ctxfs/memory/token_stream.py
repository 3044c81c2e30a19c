"""Token streams: the words of a text, each as a hash, for the comparison of cited text. Pure.

A token is a word, a character of a script without spaces, or a punctuation character. White space, line wraps and `>`
(which quotes repeat on each line) are no tokens. Texts are in Unicode's form NFC. Searches use an index of the tokens,
made once for a stream, so that the time of a search does not depend on the length of the text.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ctxfs.memory.citations import MAX_CITED_TOKENS, MAX_SAMPLES, Citation, Holding, NoText, Sample, Span, State

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s>]")
_DIGEST_BYTES = 16
_WORD_BIT = 1  # set in the hashes of words, clear in those of punctuation
_MAX_POSITIONS = 4096  # of a word, compared
_MAX_SIMILAR_POSITIONS = 128
_MAX_COMPARED = 64
_MAX_COMPARED_TOKENS = 200_000
_MIN_SHIFT_TOKENS = 4  # between words of a changed text, against the cited one
_MAX_NEARBY_TOKENS = 64
_BYTES_PER_TOKEN = 20

Numbers = npt.NDArray[np.int64]


class _TokenHashes(dict[str, int]):
    def __missing__(self, token: str) -> int:
        digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big")
        is_word = token[0].isalnum() or token[0] == "_"
        self[token] = number = number | _WORD_BIT if is_word else number & ~_WORD_BIT
        return number


class TokenStream:
    """The tokens of a text with their lines. `is_partial`: the text is the head of a longer one."""

    def __init__(self, lines: Iterable[tuple[int, str]], *, is_partial: bool = False) -> None:
        """Take (number, text) of the lines, in order."""
        hashes, numbers, counts = list[int](), list[int](), list[int]()
        table = _TokenHashes()
        for number, line in lines:
            text = line if line.isascii() else unicodedata.normalize("NFC", line)
            tokens = _TOKEN.findall(text)
            if tokens:
                hashes.extend(map(table.__getitem__, tokens))
                numbers.append(number)
                counts.append(len(tokens))
        self.is_partial = is_partial
        self._hashes = np.array(hashes, dtype=np.uint64)
        self._lines = np.repeat(np.array(numbers, dtype=np.uint32), np.array(counts, dtype=np.int64))

    @property
    def memory_bytes(self) -> int:
        """The memory of the stream and its index, about."""
        return 1000 + _BYTES_PER_TOKEN * len(self._hashes)

    def cite(self, span: Span, now_ms: int) -> Citation:
        """Return a citation of lines. Raise NoText if there are none, if they have no word, or too many."""
        last_line = int(self._lines[-1]) if len(self._lines) else 0
        if self.is_partial and span.last >= last_line:
            raise NoText(f"the source is too large: only its first {last_line} lines can be cited")
        if span.first > last_line:
            raise NoText(f"its last line with text is {last_line}")
        start = int(np.searchsorted(self._lines, span.first, "left"))
        count = int(np.searchsorted(self._lines, span.last, "right")) - start
        window = self._hashes[start : start + count]
        if not (window & _WORD_BIT).any():
            raise NoText("these lines have no words")
        if count > MAX_CITED_TOKENS:
            raise NoText(f"these lines have {count} words, {MAX_CITED_TOKENS} at most can be cited")
        neighbours = self._head(start - 1), self._head(start + count)
        samples = self._choose_samples(window)
        citation = Citation(span, self._digest(start, count), count, start, *neighbours, now_ms, samples)
        starts = self._find(citation)
        if len(starts) < 2 or start not in starts:
            return citation
        return replace(citation, ordinal=starts.index(start) + 1, occurrences=len(starts))

    def judge(self, citation: Citation) -> Holding:
        """Return the state of a citation of this text.

        A text that is neither here nor like one here is `gone`, or `unseen` if a part of the source is missing.
        """
        path, first, last = citation.span
        if self._matches(citation, citation.offset):
            return Holding(citation, State.HOLDS, self._span(path, citation.offset, citation.count))
        starts = self._find(citation)
        in_place = [start for start in starts if self._is_within(start, citation.count, first, last)]
        if in_place:
            start = min(in_place, key=lambda start: abs(start - citation.offset))
            return Holding(citation, State.HOLDS, self._span(path, start, citation.count))
        if starts and len(starts) >= citation.occurrences:
            start = starts[citation.ordinal - 1]
            if len(starts) > citation.occurrences:
                start = min(starts, key=lambda start: abs(start - citation.offset))
            return Holding(citation, State.MOVED, self._span(path, start, citation.count))
        similar = self._find_similar(citation)
        if similar is not None:
            start, is_certain = similar
            return Holding(citation, State.CHANGED, self._span(path, start, citation.count), is_certain)
        return Holding(citation, State.UNSEEN if self.is_partial else State.GONE)

    def find(self, citation: Citation, path: str) -> Span | None:
        """Return the lines of the cited text in this text, which is another file at `path`; None if it is not here."""
        starts = self._find(citation)
        return self._span(path, starts[0], citation.count) if starts else None

    def _is_within(self, start: int, count: int, first: int, last: int) -> bool:
        """Return True if a text begins on the line `first`, or is within these lines."""
        begin, end = int(self._lines[start]), int(self._lines[start + count - 1])
        return begin == first or (first < begin and end <= last)

    def _span(self, path: str, start: int, count: int) -> Span:
        last = min(start + count, len(self._lines)) - 1
        return Span(path, int(self._lines[start]), int(self._lines[last]))

    def _head(self, position: int) -> int | None:
        is_inside = 0 <= position < len(self._hashes)
        return int(self._hashes[position]) >> 32 if is_inside else None

    def _matches(self, citation: Citation, start: int) -> bool:
        """Return True if the cited text is at a position, as whole lines or beside the same words as before.

        A word that was added at the beginning or end of its line may be a "not", or the mark of a comment.
        """
        end = start + citation.count
        if self._digest(start, citation.count) != citation.digest:
            return False
        begins = start == 0 or self._lines[start - 1] != self._lines[start] or self._head(start - 1) == citation.before
        ends = end == len(self._lines) or self._lines[end] != self._lines[end - 1] or self._head(end) == citation.after
        return bool(begins and ends)

    def _digest(self, start: int, count: int) -> str:
        if start + count > len(self._hashes):
            return ""
        window = self._hashes[start : start + count]
        return hashlib.blake2b(window.astype(">u8").tobytes(), digest_size=_DIGEST_BYTES).hexdigest()

    @cached_property
    def _index(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """The heads of all hashes in order, and the positions of their tokens."""
        heads = (self._hashes >> np.uint64(32)).astype(np.uint32)
        order = np.argsort(heads, kind="stable")
        return heads[order], order.astype(np.uint32)

    def _positions(self, head: int) -> npt.NDArray[np.uint32]:
        heads, order = self._index
        value = np.uint32(head)
        return order[np.searchsorted(heads, value, "left") : np.searchsorted(heads, value, "right")]

    def _choose_samples(self, window: npt.NDArray[np.uint64]) -> tuple[Sample, ...]:
        """Return the rarest distinct words of a text, in its order."""
        heads = (window >> np.uint64(32)).astype(np.uint32)
        index = self._index[0]
        frequencies = np.searchsorted(index, heads, "right") - np.searchsorted(index, heads, "left")
        is_word = (window & np.uint64(_WORD_BIT)).astype(bool)
        ranked = np.lexsort((np.arange(len(window)), frequencies, ~is_word))
        samples = dict[int, Sample]()
        for position in ranked.tolist():
            head = int(heads[position])
            samples.setdefault(head, Sample(position, head))
            if len(samples) == MAX_SAMPLES:
                break
        return tuple(sorted(samples.values()))

    def _starts(self, sample: Sample, near: int, limit: int = _MAX_POSITIONS) -> Numbers:
        """Return the starts of texts that have a sample at its position, those nearest to `near` if there are many."""
        positions = self._positions(sample.head)
        if len(positions) > limit:
            middle = int(np.searchsorted(positions, min(near + sample.position, len(self._hashes))))
            positions = positions[max(0, middle - limit // 2) : middle + limit // 2]
        return positions.astype(np.int64) - sample.position

    def _find(self, citation: Citation) -> list[int]:
        """Return the sorted starts of the cited text; the number of comparisons is limited."""
        last_start = len(self._hashes) - citation.count
        samples = [sample for sample in citation.samples if sample.position < citation.count]
        if last_start < 0 or not samples:
            return []
        rarest = min(samples, key=lambda sample: len(self._positions(sample.head)))
        starts = self._starts(rarest, citation.offset)
        starts = starts[(starts >= 0) & (starts <= last_start)]
        for sample in samples:
            heads = self._hashes[starts + sample.position] >> np.uint64(32)
            starts = starts[heads == np.uint64(sample.head)]
        limit = max(1, min(_MAX_COMPARED, _MAX_COMPARED_TOKENS // citation.count))
        if len(starts) > limit:
            nearest = np.argsort(np.abs(starts - citation.offset), kind="stable")[:limit]
            starts = np.sort(starts[nearest])
        return [start for start in starts.tolist() if self._matches(citation, start)]

    def _find_similar(self, citation: Citation) -> tuple[int, bool] | None:
        """Return the start of a text that has at least half of the samples, about in their places; None without one.

        The second value is True if the text has all samples but one and is in its place, as after the edit of a word.
        """
        samples = citation.samples
        if not samples or not len(self._hashes):
            return None
        starts = [self._starts(sample, citation.offset, _MAX_SIMILAR_POSITIONS) for sample in samples]
        every = np.concatenate(starts)
        numbers = np.repeat(np.arange(len(samples)), [len(part) for part in starts])
        order = np.argsort(every, kind="stable")
        every, numbers = every[order], numbers[order]
        width = max(_MIN_SHIFT_TOKENS, citation.count // 8)
        needed = (len(samples) + 1) // 2
        best: tuple[int, int, int] | None = None
        left, inside = 0, dict[int, int]()
        for right in range(len(every)):
            inside[int(numbers[right])] = inside.get(int(numbers[right]), 0) + 1
            while every[right] - every[left] > width:
                number = int(numbers[left])
                inside[number] -= 1
                if not inside[number]:
                    del inside[number]
                left += 1
            distance = abs(int(every[left]) - citation.offset)
            if len(inside) >= needed and (len(inside) > 1 or distance <= _MAX_NEARBY_TOKENS):
                key = (-len(inside), distance, int(every[left]))
                best = min(best, key) if best else key
        if best is None:
            return None
        is_certain = -best[0] >= max(1, len(samples) - 1) and best[1] <= width
        return min(max(0, best[2]), len(self._hashes) - 1), is_certain
