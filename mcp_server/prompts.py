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

from ctxfs.model.errors import CommandError
from mcp_server.sessions import TreeSession
from mcp_server.tool_registry import text

_BUDGET = 4000
_REVIEWED = 20


@dataclass(frozen=True, slots=True)
class PromptReply:
    """A prompt, and the function that renders it for its arguments."""

    prompt: Prompt
    say: Callable[[TreeSession, GetPromptRequestParams], Awaitable[GetPromptResult | InputRequiredResult]]


async def _build_context(door: TreeSession, params: GetPromptRequestParams) -> GetPromptResult:
    arguments = params.arguments or {}
    budget = arguments.get("budget", str(_BUDGET))
    if not budget.isdecimal():
        raise MCPError(INVALID_PARAMS, f"budget = {budget[:40]!r}: a number of tokens is needed")
    built = await door.call("context", request={"query": arguments["task"], "budget": int(budget)})
    words = f"{built['text']}\n\n---\nUsing the sources above, and citing them by their numbers: {arguments['task']}"
    return _from_user("A context for the task, from the tree", words)


async def _remember(door: TreeSession, params: GetPromptRequestParams) -> GetPromptResult:
    arguments = params.arguments or {}
    who = str((await door.call("whoami"))["principal"]).partition(":")[2]
    found = await door.call("search", question=arguments["what"], below="memory", limit=5)
    known = "\n".join(f"- {hit['path']}:{hit['first']}-{hit['last']}  {hit['snippet']}" for hit in found["hits"])
    words = (
        f"Remember this, if it is worth it: {arguments['what']}\n\n"
        f"Write it with ctx_write to memory/{who}/<kind>/<name>.md, kind being episodic, fact, experiential, procedural or user; one "
        "thing a file, in a sentence or two that will be understood alone, with the date. If it is from a tool, a page or somebody "
        "else, say so in `source`. If it changes what is known already, edit that file instead.\n\n"
        f"What is known already:\n{known or '- nothing like it'}"
    )
    return _from_user("Keep something in memory", words)


async def _review_changes(door: TreeSession, params: GetPromptRequestParams) -> GetPromptResult:
    arguments = params.arguments or {}
    path = arguments.get("path", "memory")
    asked = {"path": path, "limit": _REVIEWED, "changes": True}
    if arguments.get("since"):
        asked["since"] = arguments["since"]
    versions = await door.call("log", **asked)
    lines = [
        f"- {version['revision'][:12]} {version['time']} {version['principal']}: "
        + ", ".join(f"{change['what']} {change['path']}" for change in version["changes"][:10])
        for version in versions
    ]
    words = (
        f"Review what was changed in {path}. Look at what matters with ctx_history (mode diff, at: the revision before); say what is "
        "wrong, contradictory or should not be remembered, and propose restores (ctx_history, mode restore: a dry run first).\n\n"
        + ("\n".join(lines) or "Nothing was changed.")
    )
    return _from_user("Review the last changes", words)


def _from_user(description: str, words: str) -> GetPromptResult:
    return GetPromptResult(description=description, messages=[PromptMessage(role="user", content=text(words))])


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
                "What the tree knows for a task, within a budget, and the task",
                task=("the task or question", True),
                budget=("tokens, 4000 by default", False),
            ),
            _build_context,
        ),
        PromptReply(_prompt("remember", "Keep something in memory", what=("what to remember", True)), _remember),
        PromptReply(
            _prompt(
                "review_changes",
                "Look at what was changed lately",
                path=("below this directory; memory by default", False),
                since=("such as 1d or 2026-11-20", False),
            ),
            _review_changes,
        ),
    ]


class Prompts:
    """The prompts of a server, by name."""

    def __init__(self, prompts: list[PromptReply]) -> None:
        self._prompts = {said.prompt.name: said for said in prompts}

    def list(self) -> ListPromptsResult:
        """Return all prompts."""
        return ListPromptsResult(prompts=[said.prompt for said in self._prompts.values()])

    async def get(self, door: TreeSession, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
        """Return a rendered prompt.

        Raises MCPError -32602 for an unknown prompt, and for missing or unknown arguments.
        """
        name, arguments = params.name, params.arguments or {}
        said = self._prompts.get(name)
        if said is None:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {name[:200]}")
        known = {argument.name: bool(argument.required) for argument in said.prompt.arguments or ()}
        missing = [each for each, required in known.items() if required and each not in arguments]
        if missing or (unknown := set(arguments) - set(known)):
            wrong = f"missing: {', '.join(missing)}" if missing else f"unknown: {min(unknown)}"
            raise MCPError(INVALID_PARAMS, f"{name}: {wrong}; arguments: {', '.join(known)}")
        try:
            return await said.say(door, params)
        except OSError as error:
            raise MCPError(INVALID_PARAMS, f"{name}: {error.filename}: {error.strerror}") from error
        except CommandError as error:
            raise MCPError(INVALID_PARAMS, f"{name}: {error.message}. {error.remedy}") from error
