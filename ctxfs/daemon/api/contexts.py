"""RPC methods on contexts: build, verify, evaluate, curate, review. Plain values in, plain values out."""

import errno
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.context.build.manifest import parse_manifest
from ctxfs.context.build.rebuild import changed_since, rebuild
from ctxfs.context.build.request import make_request
from ctxfs.context.delivery.tasks import RESPONSE
from ctxfs.context.grounding.evaluator import decode_response, render_evaluation
from ctxfs.model.errors import invalid, not_permitted, path_error
from ctxfs.model.path import Path
from ctxfs.policy.rules import Verb
from ctxfs.vfs.session import Session

Method = Callable[[App, Session, Mapping[str, Any]], Awaitable[Any]]


async def _context(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    context = await app.contexts.build(
        make_request(args["request"], app.settings.context.budget), caller.actor.principal
    )
    return {
        "text": context.text,
        "manifest": context.manifest,
        "tokens": context.tokens,
        "notes": list(context.notes),
        "found": context.candidate_count,
    }


async def _verify(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Rebuild a context from its manifest and compare.

    `same` is true if the rebuilt context equals the manifest's byte for byte, `now` if a new build does.
    """
    manifest = parse_manifest(args["manifest"])
    again = await rebuild(manifest, app.resolver.fetch, app.resolver.extract)
    stale = await changed_since(manifest, app.resolver.current)
    fault, now = "", False
    try:
        now = (await app.contexts.build(manifest.request, caller.actor.principal)).sha256 == manifest.sha256
    except OSError as error:
        fault = error.strerror or str(error)
    return {
        "same": again.same,
        "missing": list(again.missing),
        "changed": stale,
        "now": now,
        "fault": fault,
    }


async def _evaluate(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return evaluation.json of a response to the context of a manifest; nothing is stored."""
    manifest, response = parse_manifest(args["manifest"]), decode_response(args["response"])
    return render_evaluation(await app.evaluator.evaluate(manifest, response), manifest, response)


async def _curate(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Evaluate the response of a task, store the accepted claims, and open reviews for the others."""
    task = Path.parse(str(args["task"]))
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
    return await app.tasks.curate(task.name)


async def _reviews(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    return [
        {
            "id": review.id,
            "claim": review.claim,
            "task": review.task,
            "why": review.why,
            "suggested": review.suggested,
            "decision": review.decision,
        }
        for review in await app.curator.reviews()
    ]


async def _decide(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    name = str(args["id"])
    if len(Path.parse(name).parts) != 1:
        raise not_permitted(name, "this is not the id of a review")
    await app.curator.decide(name, str(args["verdict"]).encode("utf-8", "replace"), caller.actor.principal)


CONTEXT_METHODS: Mapping[str, Method] = {
    "context": _context,
    "verify_context": _verify,
    "evaluate_response": _evaluate,
    "curate": _curate,
    "reviews": _reviews,
    "decide": _decide,
}
