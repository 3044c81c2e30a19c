"""The tasks of context/: contexts of requests, deliveries of them, and evaluation of responses.

All state is derived from the files of a task (`request.toml`, `response.md`), the tree and the index. Deliveries and
answered contexts are recorded (`records.py`, `delivery_store.py`), so that a restart continues from there.
"""

import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import trio

from ctxfs.context.build.constructor import Context
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.render import NAMES
from ctxfs.context.build.request import Request, parse_request
from ctxfs.context.delivery.delivery_store import DeliveryStore
from ctxfs.context.delivery.expiry import REQUEST
from ctxfs.context.delivery.loader import (
    Window,
    dump_window,
    load_window,
    refresh_window,
    render_delta,
    split_context,
)
from ctxfs.context.delivery.records import (
    answered_by,
    answering_credential,
    append_loads,
    dump_answered,
    parse_answered,
    sources_of_answered,
    step_entry,
    window_name,
)
from ctxfs.context.grounding.evaluator import Evaluator, decode_response, render_evaluation
from ctxfs.context.grounding.review import FACTS, Curator
from ctxfs.eventlog.recorder import Recorder
from ctxfs.index.search.results import Generation
from ctxfs.model.entry import Entry
from ctxfs.model.errors import CommandError, invalid, not_found
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.model.principal import parse_principal
from ctxfs.policy.scope import TaskScope
from ctxfs.store.record_names import ANSWERED, LOADS, is_record
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting, acting_principal, acting_session

log = logging.getLogger(__name__)

RESPONSE = "response.md"
EVALUATION = "evaluation.json"
_STABLE_AREAS = (("knowledge",), ("memory",), ("pad",))
_QUIET_SECONDS = 0.5
_MAX_LOADED = 200  # pieces that the record of a delivery names
_MAX_CACHED_CONTEXTS = 500  # contexts in memory: one for each task and each set of read permissions

# The tasks whose contexts are being built, to detect cycles: a pin may name another context, and that one this.
_tasks_in_build: ContextVar[tuple[str, ...]] = ContextVar("ctxfs-building", default=())


class Builder(Protocol):
    """A builder of contexts for the calling principal."""

    async def build(self, request: Request) -> Context:
        """Build a context for a request."""
        ...


class IndexState(Protocol):
    """The state of the index, which decides whether a context is current."""

    def generation(self) -> Generation:
        """Return the state; an answer of another generation may differ."""
        ...


class PieceLookup(Protocol):
    """A lookup of delivered pieces in their current sources."""

    async def reread(self, pieces: Sequence[Piece]) -> list[Piece | None]:
        """Return each piece at its present position; None if its text is gone."""
        ...


@dataclass(frozen=True, slots=True)
class BuiltContext:
    """The result of a task's request."""

    request: bytes
    generation: Generation
    at: float
    made_ns: int
    context: Context | None
    error: str
    steady: bool = True  # no pin can change without a change of the index


@dataclass(frozen=True, slots=True)
class _CachedEvaluation:
    response: bytes
    generation: Generation
    record: bytes


class Tasks:
    """The tasks, which are directories of the mount `requests`."""

    def __init__(
        self,
        requests: Mount,
        deliveries: DeliveryStore,
        builder: Builder,
        evaluator: Evaluator,
        curator: Curator,
        pieces: PieceLookup,
        index: IndexState,
        recorder: Recorder,
        scope: TaskScope,
        default_budget: int,
    ) -> None:
        self._requests = requests
        self._deliveries = deliveries
        self._builder = builder
        self._evaluator = evaluator
        self._curator = curator
        self._pieces = pieces
        self._index = index
        self._recorder = recorder
        self._scope = scope
        self._default_budget = default_budget
        self._built: dict[tuple[str, Hashable], BuiltContext] = {}
        self._evaluated: dict[tuple[str, Hashable], _CachedEvaluation] = {}
        self._pending_responses = dict[str, float]()  # task → time at which its response was last written
        self._response_written = trio.Event()
        self._lock = trio.Lock()

    async def drop_or_move(self, task: str, to: str = "") -> None:
        """Drop the records and caches of a removed task, or move them to its new name."""
        async with self._lock:
            await (self._deliveries.move(task, to) if to else self._deliveries.drop(task))
        self.evict(task)

    async def drop_matching(self, is_doomed: Callable[[bytes], bool]) -> list[str]:
        """Drop the records of tasks with a record that `is_doomed`, and all caches; return these tasks."""
        dropped = []
        async with self._lock:
            for task in await self._deliveries.tasks():
                for name in await self._deliveries.names(task):
                    data = await self._deliveries.read(task, name)
                    if data is not None and await blocking(is_doomed, data):
                        await self._deliveries.drop(task)
                        dropped.append(task)
                        break
        self._built.clear()
        self._evaluated.clear()
        return dropped

    def evict(self, task: str) -> None:
        """Evict the caches of a task."""
        for cache in (self._built, self._evaluated):
            for key in [key for key in cache if key[0] == task]:
                del cache[key]

    @staticmethod
    def _limit_cache(cache: dict[tuple[str, Hashable], Any]) -> None:
        while len(cache) > _MAX_CACHED_CONTEXTS:
            del cache[next(iter(cache))]

    # snapshots

    async def build_if_changed(self, task: str) -> BuiltContext:
        """Return the current state of a task; build its context if the request or the index changed."""
        request = await self._read_file(task, REQUEST) or b""
        key = (task, self._scope.cache_key())
        old = self._built.get(key)
        generation = self._index.generation()
        unchanged = old is not None and old.request == request and old.steady
        if old and unchanged and generation.may_reuse(old.generation, time.monotonic() - old.at):
            return old
        context, error = None, ""
        ancestors = _tasks_in_build.get()
        if task in ancestors:
            raise invalid("pins", f"context/{task} would contain itself: {' → '.join((*ancestors, task))}")
        token = _tasks_in_build.set((*ancestors, task))
        steady = True
        try:
            parsed = self._parse_request(request)
            # No generation counts the versions of a branch.
            steady = not parsed.branch and all(pin.path.parts[:1] in _STABLE_AREAS for pin in parsed.pins)
            context = await self._builder.build(parsed)
        except OSError as failure:
            error = failure.strerror or str(failure)
        except CommandError as failure:
            error = f"{failure.message} {failure.remedy}".strip()
        finally:
            _tasks_in_build.reset(token)
        if context is None and old:
            context = old.context  # the last successful context stays
        built = BuiltContext(request, generation, time.monotonic(), time.time_ns(), context, error, steady)
        self._built[key] = built
        self._limit_cache(self._built)
        return built

    def _parse_request(self, request: bytes) -> Request:
        try:
            return parse_request(request.decode("utf-8"), self._default_budget)
        except UnicodeDecodeError as error:
            raise invalid(REQUEST, f"request.toml is not UTF-8: {error}") from error

    async def error(self, task: str) -> str:
        """Return the errors of a task's request and response; empty if there are none."""
        wrong = [(await self.build_if_changed(task)).error]
        response = await self._read_file(task, RESPONSE)
        if response is not None:
            try:
                decode_response(response)
            except OSError as error:
                wrong.append(error.strerror or str(error))
        return "\n".join(filter(None, wrong))

    async def snapshot(self, task: str, principal: str) -> bytes:
        """Return the whole context, in the format of its request; ENOENT if there is none.

        A delivery is recorded if the text differs from the last recorded one.
        """
        context = await self._context(task)
        data = context.text.encode("utf-8", "replace")
        async with self._lock:
            last = (await self._read_loads(task)).rpartition(b'"snapshot", "sha256": "')[2][:64]
            if last != context.sha256.encode():
                loaded = [f"{piece.path}:{piece.first}-{piece.last}" for piece in context.plan.chosen if piece.path]
                record = {"sha256": context.sha256, "tokens": context.tokens, "loaded": loaded[:_MAX_LOADED]}
                await self._record_loads(task, principal, "snapshot", [record])
            else:
                await self._deliveries.record_use(task, LOADS)
        return data

    async def _context(self, task: str) -> Context:
        built = await self.build_if_changed(task)
        if built.context is None:
            raise not_found(Path((task, NAMES["markdown"])))
        return built.context

    # deliveries

    async def stream(self, task: str, principal: str, *, at: int | None = None, deliver: bool) -> bytes:
        """Return the next text of the stream, empty at its end; with `at`, return that text without a delivery."""
        _refuse_pin(task)
        async with self._lock:
            context = await self._context(task)
            window = (await self._read_window(task, principal)).start_stream(context.sha256)
            parts = await blocking(split_context, context, window)
            cursor = window.cursor if at is None else at
            if cursor >= len(parts):
                return b""
            if deliver and at is None:
                part = parts[cursor]
                await self._write_window(task, principal, window.advance(part))
                loaded = [f"{piece.path}:{piece.first}-{piece.last}" for piece in part.ends]
                record = {"cursor": cursor, "loaded": loaded, "reason": "the next of the stream"}
                await self._record_loads(task, principal, "stream", [record])
            return parts[cursor].text.encode("utf-8", "replace")

    async def delta(self, task: str, principal: str, *, deliver: bool) -> bytes:
        """Return the pieces that the reader's window has to add, replace and drop."""
        _refuse_pin(task)
        async with self._lock:
            context = await self._context(task)
            window = await self._read_window(task, principal)
            reread = await self._pieces.reread([entry.piece for entry in window.held])
            delta = await blocking(refresh_window, context, window, reread)
            if deliver:
                await self._write_window(task, principal, delta.window)
                records = [step_entry(step, delta.window.deliveries) for step in delta.steps]
                await self._record_loads(task, principal, "delta", records)
            return render_delta(delta).encode("utf-8", "replace")

    async def _read_window(self, task: str, principal: str) -> Window:
        data = await self._deliveries.read(task, window_name(principal))
        return load_window(data) if data else Window()

    async def _write_window(self, task: str, principal: str, window: Window) -> None:
        await self._deliveries.write(task, window_name(principal), dump_window(window))

    async def _read_loads(self, task: str) -> bytes:
        return await self._deliveries.read(task, LOADS) or b""

    async def _record_loads(
        self, task: str, principal: str, mode: str, entries: Sequence[Mapping[str, object]]
    ) -> None:
        """Record loads and replacements with time, principal, source and reason."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        common = {"at": now, "principal": principal, "mode": mode}
        data = await self._read_loads(task)
        if entries:
            await self._deliveries.write(task, LOADS, append_loads(data, common, entries))
            await self._recorder.remember(
                principal, [{"kind": "load", "task": task, "mode": mode, **entry} for entry in entries]
            )

    # responses

    async def record_answered(self, task: str) -> None:
        """Record the current context as the one that a newly written response answers."""
        self._pending_responses[task] = time.monotonic()
        self._response_written.set()
        built = await self.build_if_changed(task)
        if built.context is not None:
            credential = principal.bound if (principal := acting_principal()) is not None else ""
            await self._deliveries.write(task, ANSWERED, dump_answered(built.context, credential))

    async def records(self, task: str) -> Sequence[str]:
        """Return the names of a task's records."""
        return [name for name in await self._deliveries.names(task) if is_record(name)]

    async def record_entry(self, task: str, name: str) -> Entry:
        """Return the modification time and size of a record as an entry; ENOENT if there is none."""
        return await self._deliveries.stat(task, name)

    async def record(self, task: str, name: str) -> bytes:
        """Return the content of a record; ENOENT if there is none."""
        data = await self._deliveries.read(task, name)
        if data is None:
            raise not_found(Path((task, name)))
        return data

    async def sources_of_response(self, task: str) -> frozenset[Path] | None:
        """Return the files with texts in the context that the response answers; None if there is no record."""
        data = await self._deliveries.read(task, ANSWERED)
        try:
            return sources_of_answered(data) if data is not None else None
        except OSError:
            return None

    async def has_response(self, task: str) -> bool:
        """Return True if there is a response that can be evaluated."""
        return await self._answered_response(task) is not None

    async def _answered_response(self, task: str) -> tuple[bytes, bytes] | None:
        """Return the response and the record of its context; None if there is none that can be evaluated."""
        response, answered = await self._read_file(task, RESPONSE), await self._deliveries.read(task, ANSWERED)
        if response is None or answered is None:
            return None
        try:
            return (response, answered) if decode_response(response).strip() else None
        except OSError:
            return None

    async def evaluation(self, task: str) -> bytes:
        """Return evaluation.json; ENOENT without a response that is text."""
        answer = await self._answered_response(task)
        if answer is None:
            raise not_found(Path((task, EVALUATION)))
        key = (task, self._scope.cache_key())
        cached = self._evaluated.get(key)
        generation = self._index.generation()
        if cached is not None and cached.response == answer[0] and cached.generation == generation:
            return cached.record
        record, _ = await self._evaluate(task, *answer)
        self._evaluated[key] = _CachedEvaluation(answer[0], generation, record)
        self._limit_cache(self._evaluated)
        return record

    async def _evaluate(
        self, task: str, response: bytes, answered: bytes, *, curate: bool = False
    ) -> tuple[bytes, dict[str, object]]:
        manifest, texts = parse_answered(answered)
        text = decode_response(response)
        evaluation = await self._evaluator.evaluate(manifest, text, texts)
        outcome: dict[str, object] = {}
        if curate:
            facts = _fact_directory(answered_by(answered))
            directory = facts if self._scope.may_create(facts) else None
            paths, reviews = await self._curator.curate(task, manifest, evaluation, directory, self._scope)
            outcome = {"kept": paths, "reviews": reviews}
        return render_evaluation(evaluation, manifest, text), outcome

    async def curate(self, task: str) -> dict[str, object]:
        """Evaluate the response now, store facts and open reviews; return the evaluation with the results."""
        answer = await self._answered_response(task)
        if answer is None:
            error = await self.error(task)
            raise invalid(f"context/{task}", error or "there is no response: write it to response.md")
        self._pending_responses.pop(task, None)
        author = answered_by(answer[1])
        caller = acting_principal()
        # A credential restricts its agent's permissions, so the facts are stored with the same restriction.
        answerer = parse_principal(answering_credential(answer[1]) or author) if author else caller
        with acting(answerer, acting_session()):
            record, outcome = await self._evaluate(task, *answer, curate=True)
        return {"evaluation": record, **outcome}

    async def curate_forever(self) -> None:
        """Curate responses forever, each once it has been unchanged for a moment.

        The process that serves the store runs this.
        """
        while True:
            await self._response_written.wait()
            self._response_written = trio.Event()
            while self._pending_responses:
                await trio.sleep(_QUIET_SECONDS)
                now = time.monotonic()
                for task in [
                    task for task, written_at in self._pending_responses.items() if now - written_at >= _QUIET_SECONDS
                ]:
                    self._pending_responses.pop(task, None)
                    try:
                        await self.curate(task)
                    except (OSError, CommandError) as error:
                        log.info("cannot evaluate context/%s: %s", task, error)  # error.txt has it, too
                    except Exception:  # no response may end the daemon
                        log.exception("cannot evaluate context/%s", task)

    async def _read_file(self, task: str, name: str) -> bytes | None:
        try:
            return await self._requests.read(Path((task, name)))
        except FileNotFoundError:
            return None


def _refuse_pin(task: str) -> None:
    if _tasks_in_build.get():
        raise invalid("pins", f"what context/{task} delivers bit by bit cannot be pinned")


def _fact_directory(principal: str) -> Path:
    """Return the directory for facts: an agent's answer may come from files that only that agent may read."""
    kind, _, name = principal.partition(":")
    return Path(("memory", name, "fact")) if kind == "agent" and name else FACTS
