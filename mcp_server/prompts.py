"""Prompts: `build_context`, `remember`, `review_changes`. Each includes the content of the tree that it needs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    Prompt,
    PromptArgument,
    PromptMessage,
)

from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.tool_registry import text
from ctxfs.model.errors import CommandError

_DEFAULT_BUDGET_TOKENS = 4000
_MAX_REVIEWED_VERSIONS = 20


@dataclass(frozen=True, slots=True)
class PromptReply:
    """A prompt, and the function that renders it for its arguments."""

    prompt: Prompt
    render: Callable[[TreeSession, GetPromptRequestParams], Awaitable[GetPromptResult | InputRequiredResult]]


async def _build_context(tree: TreeSession, params: GetPromptRequestParams) -> GetPromptResult:
    arguments = params.arguments or {}
    budget = arguments.get("budget", str(_DEFAULT_BUDGET_TOKENS))
    if not budget.isdecimal():
        raise MCPError(INVALID_PARAMS, f"budget = {budget[:40]!r}: a number of tokens is needed")
    context = await tree.call("context", request={"query": arguments["task"], "budget": int(budget)})
    message = (
        f"{context['text']}\n\n---\nUsing the sources above, and citing them by their numbers: {arguments['task']}"
    )
    return _from_user("A context for the task, from the tree", message)


async def _remember(tree: TreeSession, params: GetPromptRequestParams) -> GetPromptResult:
    arguments = params.arguments or {}
    agent = str((await tree.call("whoami"))["principal"]).partition(":")[2]
    results = await tree.call("search", question=arguments["what"], below="memory", limit=5)
    memories = "\n".join(f"- {hit['path']}:{hit['first']}-{hit['last']}  {hit['snippet']}" for hit in results["hits"])
    message = (
        f"Remember this, if it is worth it: {arguments['what']}\n\n"
        f"Write it with ctx_write to memory/{agent}/<kind>/<name>.md, kind being episodic, fact, experiential, procedural or user; one "
        "thing a file, in a sentence or two that will be understood alone, with the date. If it is from a tool, a page or another "
        "person, name it in `source`. If it changes what is known already, edit that file instead.\n\n"
        f"What is known already:\n{memories or '- nothing like it'}"
    )
    return _from_user("Keep something in memory", message)


async def _review_changes(tree: TreeSession, params: GetPromptRequestParams) -> GetPromptResult:
    arguments = params.arguments or {}
    path = arguments.get("path", "memory")
    query = {"path": path, "limit": _MAX_REVIEWED_VERSIONS, "changes": True}
    if arguments.get("since"):
        query["since"] = arguments["since"]
    versions = await tree.call("log", **query)
    lines = [
        f"- {version['revision'][:12]} {version['time']} {version['principal']}: "
        + ", ".join(f"{change['what']} {change['path']}" for change in version["changes"][:10])
        for version in versions
    ]
    message = (
        f"Review what was changed in {path}. Look at what matters with ctx_history (mode diff, at: the revision before); say what is "
        "wrong, contradictory or should not be remembered, and propose restores (ctx_history, mode restore: a dry run first).\n\n"
        + ("\n".join(lines) or "Nothing was changed.")
    )
    return _from_user("Review the last changes", message)


def _from_user(description: str, message: str) -> GetPromptResult:
    return GetPromptResult(description=description, messages=[PromptMessage(role="user", content=text(message))])


def _prompt(name: str, description: str, **arguments: tuple[str, bool]) -> Prompt:
    return Prompt(
        name=name,
        description=description,
        arguments=[
            PromptArgument(name=argument, description=words, required=required)
            for argument, (words, required) in arguments.items()
        ],
    )


def own_prompts() -> list[PromptReply]:
    """Return the prompts in listing order."""
    return [
        PromptReply(
            _prompt(
                "build_context",
                "A context for a task, within a budget, and the task",
                task=("the task or question", True),
                budget=("tokens, 4000 by default", False),
            ),
            _build_context,
        ),
        PromptReply(_prompt("remember", "Keep something in memory", what=("what to remember", True)), _remember),
        PromptReply(
            _prompt(
                "review_changes",
                "Review the latest changes",
                path=("below this directory; memory by default", False),
                since=("such as 1d or 2026-11-20", False),
            ),
            _review_changes,
        ),
    ]


class Prompts:
    """The prompts of a server, by name."""

    def __init__(self, prompts: list[PromptReply]) -> None:
        self._prompts = {reply.prompt.name: reply for reply in prompts}

    def list(self) -> ListPromptsResult:
        """Return all prompts."""
        return ListPromptsResult(prompts=[reply.prompt for reply in self._prompts.values()])

    async def get(self, tree: TreeSession, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
        """Return a rendered prompt.

        Raises MCPError -32602 for an unknown prompt, and for missing or unknown arguments.
        """
        name, arguments = params.name, params.arguments or {}
        reply = self._prompts.get(name)
        if reply is None:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {name[:200]}")
        is_required = {argument.name: bool(argument.required) for argument in reply.prompt.arguments or ()}
        missing = [parameter for parameter, required in is_required.items() if required and parameter not in arguments]
        if missing or (unknown := set(arguments) - set(is_required)):
            fault = f"missing: {', '.join(missing)}" if missing else f"unknown: {min(unknown)}"
            raise MCPError(INVALID_PARAMS, f"{name}: {fault}; arguments: {', '.join(is_required)}")
        try:
            return await reply.render(tree, params)
        except OSError as error:
            raise MCPError(INVALID_PARAMS, f"{name}: {error.filename}: {error.strerror}") from error
        except CommandError as error:
            raise MCPError(INVALID_PARAMS, f"{name}: {error.message}. {error.remedy}") from error
