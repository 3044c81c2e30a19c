"""RPC methods on contexts: build, verify, evaluate, curate, review. Plain values in, plain values out."""

import errno
import json
from dataclasses import dataclass, replace
from typing import Any

from ctxfs.app import App
from ctxfs.context.build.manifest import parse_manifest
from ctxfs.context.build.rebuild import changed_since, rebuild
from ctxfs.context.build.request import MAX_BUDGET, make_request
from ctxfs.context.delivery.tasks import RESPONSE
from ctxfs.context.grounding.evaluator import decode_response, render_evaluation
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.daemon.api.versions import commit_everything
from ctxfs.model.errors import invalid, not_permitted, path_error
from ctxfs.model.path import Path
from ctxfs.policy.rules import Verb
from ctxfs.vfs.session import Session

_BUDGET_FACTORS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_ROOM_REASONS = ("budget", "quota", "origin")  # of exclusions that a larger budget lifts


@dataclass(frozen=True, slots=True)
class ContextParams:
    """A request for a context, see `context.build.request`."""

    request: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VerifyParams:
    """The bytes of a manifest.json."""

    manifest: bytes


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    """The bytes of a manifest.json, and of the response to its context."""

    manifest: bytes
    response: bytes


@dataclass(frozen=True, slots=True)
class CurateParams:
    """The name of a task."""

    task: Path


@dataclass(frozen=True, slots=True)
class DecideParams:
    """The id of a review, and the verdict as a file of `human/review/` contains it."""

    id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class ReviewParams:
    """The id of a review."""

    id: str


@method(
    "context",
    ContextParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("context", "request", is_query=True),
    effects=Effect.READS_INDEX | Effect.CANCELLABLE,
)
async def _context(app: App, caller: Session, params: ContextParams) -> Any:
    context = await app.contexts.builder.build(
        make_request(params.request, app.settings.context.budget), caller.actor.principal
    )
    return {
        "text": context.text,
        "manifest": context.manifest,
        "tokens": context.tokens,
        "notes": list(context.notes),
        "found": context.candidate_count,
        "pieces": len(context.plan.chosen),
        "answer": context.answer.as_record(),
    }


@method(
    "context_budgets",
    ContextParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("context", "request", is_query=True),
    effects=Effect.READS_INDEX | Effect.CANCELLABLE,
)
async def _context_budgets(app: App, caller: Session, params: ContextParams) -> Any:
    """Return [{budget, items}]: the passages that come in at larger budgets, each at the smallest one that was built.

    `items` are {path, first, last} as in manifest.json. The budgets are multiples of that of the request, up to the first
    one that leaves nothing out for want of room.
    """
    request = make_request(params.request, app.settings.context.budget)
    budgets = dict.fromkeys(min(MAX_BUDGET, round(request.budget * factor)) for factor in _BUDGET_FACTORS)
    known, steps = set[tuple[str, int, int]](), list[dict[str, object]]()
    for budget in (request.budget, *budgets):
        built = await app.contexts.builder.build(replace(request, budget=budget), caller.actor.principal)
        body = json.loads(built.manifest)
        spans = {(item["path"], item["first"], item["last"]) for item in body["items"]}
        new = sorted(spans - known)
        if budget != request.budget and new:
            items = [{"path": path, "first": first, "last": last} for path, first, last in new]
            steps.append({"budget": budget, "items": items})
        known |= spans
        if not any(item["reason"] in _ROOM_REASONS for item in body["excluded"]):
            break
    return steps


@method("verify_context", VerifyParams, needs=Check.BY_METHOD, audit=AuditEvent("context"), effects=Effect.READS_INDEX)
async def _verify(app: App, caller: Session, params: VerifyParams) -> Any:
    """Rebuild a context from its manifest and compare.

    `same` is true if the rebuilt context equals the manifest's byte for byte, `now` if a new build does.
    """
    manifest = parse_manifest(params.manifest)
    again = await rebuild(manifest, app.resolver.fetch, app.resolver.extract)
    stale = await changed_since(manifest, app.resolver.current)
    fault, now = "", False
    try:
        now = (await app.contexts.builder.build(manifest.request, caller.actor.principal)).sha256 == manifest.sha256
    except OSError as error:
        fault = error.strerror or str(error)
    return {
        "same": again.same,
        "missing": list(again.missing),
        "changed": stale,
        "now": now,
        "fault": fault,
    }


@method(
    "evaluate_response",
    EvaluateParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("context"),
    effects=Effect.CHANGES_FILES,
)
async def _evaluate(app: App, caller: Session, params: EvaluateParams) -> Any:
    """Return evaluation.json of a response to the context of a manifest; nothing is stored."""
    manifest, response = parse_manifest(params.manifest), decode_response(params.response)
    return render_evaluation(await app.contexts.evaluator.evaluate(manifest, response), manifest, response)


@method(
    "curate",
    CurateParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("context", "task"),
    effects=Effect.CHANGES_FILES | Effect.READS_INDEX,
)
async def _curate(app: App, caller: Session, params: CurateParams) -> Any:
    """Evaluate the response of a task, store the accepted claims, and open reviews for the others."""
    task = params.task
    if len(task.parts) != 1:
        raise invalid(task, "this is not the name of a task")
    response = Path(("context", task.name, RESPONSE))
    try:
        await caller.tree.stat(response)
    except FileNotFoundError:
        await caller.tree.stat(response.parent)  # raises ENOENT for a task that does not exist for the caller
        raise invalid(response.parent, "there is no response: write it to response.md") from None
    if not app.policy.is_allowed(caller.principal, Verb.WRITE, response):
        raise path_error(errno.EACCES, response)
    return await app.contexts.tasks.curate(task.name)


@method("reviews", NoParams, needs=Check.ADMINISTRATORS)
async def _reviews(app: App, caller: Session, params: NoParams) -> Any:
    return [
        {
            "id": review.id,
            "claim": review.claim,
            "task": review.task,
            "why": review.why,
            "suggested": review.suggested,
            "decision": review.decision,
            "kind": review.kind,
        }
        for review in await app.memory.curator.reviews()
    ]


@method("decide", DecideParams, needs=Check.ADMINISTRATORS, effects=Effect.CHANGES_WORK_TREE)
async def _decide(app: App, caller: Session, params: DecideParams) -> Any:
    """Apply a verdict; return the paths that it has changed."""
    name = params.id
    if len(Path.parse(name).parts) != 1:
        raise not_permitted(name, "this is not the id of a review")
    paths = await app.memory.curator.decide(name, params.verdict.encode("utf-8", "replace"), caller.actor.principal)
    return {"changes": [{"path": path} for path in paths]}


@method(
    "undo_decision",
    ReviewParams,
    needs=Check.ADMINISTRATORS,
    effects=Effect.COMMITS_FIRST | Effect.CHANGES_WORK_TREE,
)
async def _undo_decision(app: App, caller: Session, params: ReviewParams) -> Any:
    """Take a verdict back, so that the review waits again; return the paths that have changed."""
    if len(Path.parse(params.id).parts) != 1:
        raise not_permitted(params.id, "this is not the id of a review")
    await commit_everything(app)
    paths = await app.memory.curator.undo(params.id, caller.actor.principal)
    return {"changes": [{"path": path} for path in paths]}
