"""The hook configuration of each client: its files, its names of events, and the form of an entry. Pure.

The forms are those of the clients' documentation. `events` are in the order of a session.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as HostPath
from typing import Any, Literal

from ctxfs.store.user_folders import home_folder

_SECONDS = 10  # a hook needs a hundredth of it; with recall, a tenth
_PROGRAM = "ctxfs"
_HOOK_WORDS = ["capture", "hook"]

# `groups`: {"hooks": {EVENT: [{"hooks": [{"type", "command", "timeout"}]}]}}; `commands`: {EVENT: [{"command", …}]}.
Form = Literal["groups", "commands"]


@dataclass(frozen=True, slots=True)
class HookClient:
    """A client with hooks. `project` and `user` are its files, relative to the project and to the home folder.

    `events` are our events with the client's names. `timeout` is of an entry, in the unit of the client. `header` are
    members that the file needs. `notes` are limits of the client, for people.
    """

    name: str
    project: str
    user: str
    events: Mapping[str, str]
    form: Form = "groups"
    timeout: int = _SECONDS
    timeouts: Mapping[str, int] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    can_recall: bool = True
    notes: Sequence[str] = ()

    def file(self, folder: HostPath | None) -> HostPath:
        """Return the settings file of a project folder, or of the user (None)."""
        return folder / self.project if folder is not None else HostPath(home_folder()) / self.user

    def entry(self, event: str, command: str) -> dict[str, Any]:
        """Return the entry of one of our events in the client's list for it."""
        handler: dict[str, Any] = {"command": command, "timeout": self.timeouts.get(event, self.timeout)}
        return {"hooks": [{"type": "command", **handler}]} if self.form == "groups" else handler


_CLAUDE_EVENTS = {
    "session-start": "SessionStart",
    "prompt": "UserPromptSubmit",
    "stop": "Stop",
    "compact": "PreCompact",
    "session-end": "SessionEnd",
    "tool": "PostToolUse",
}

HOOK_CLIENTS = {
    client.name: client
    for client in (
        HookClient("claude-code", ".claude/settings.json", ".claude/settings.json", _CLAUDE_EVENTS),
        HookClient(
            "codex",
            ".codex/hooks.json",
            ".codex/hooks.json",
            _CLAUDE_EVENTS,
            timeouts={"session-end": 3},  # the most that it permits
            notes=(
                "Codex runs hooks of a project that it trusts, after you have looked at them with /hooks",
                "Codex before the event SessionEnd ignores that hook: the end of a session is not recorded then",
            ),
        ),
        HookClient(
            "gemini-cli",
            ".gemini/settings.json",
            ".gemini/settings.json",
            {
                "session-start": "SessionStart",
                "prompt": "BeforeAgent",
                "stop": "AfterAgent",
                "compact": "PreCompress",
                "session-end": "SessionEnd",
                "tool": "AfterTool",
            },
            timeout=_SECONDS * 1000,
        ),
        HookClient(
            "cursor",
            ".cursor/hooks.json",
            ".cursor/hooks.json",
            {
                "session-start": "sessionStart",
                "prompt": "beforeSubmitPrompt",
                "response": "afterAgentResponse",
                "stop": "stop",
                "compact": "preCompact",
                "session-end": "sessionEnd",
                "tool": "postToolUse",
            },
            form="commands",
            header={"version": 1},
            can_recall=False,
            notes=("Cursor takes no context from a hook at a prompt: recall is left out",),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class HookCommand:
    """The parts of an installed command. `recall` is in tokens, 0 without recall."""

    program: Sequence[str]
    store: str
    client: str
    principal: str = ""
    recall: int = 0

    def line(self, event: str) -> str:
        """Return the shell command for an event. It never fails, because clients take a failure for an answer."""
        words = [*self.program, "--store", self.store, *_HOOK_WORDS, event, "--client", self.client]
        words += ["--as", self.principal] if self.principal else []
        words += [f"--recall={self.recall}"] if self.recall and event == "prompt" else []
        return f"{shlex.join(words)} || true"


def store_of_command(command: object, client: str) -> str | None:
    """Return the store in a command that `HookCommand` made for a client; None for any other command."""
    if not isinstance(command, str) or "hook" not in command:
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    positions = [index for index in range(len(words)) if words[index : index + 2] == _HOOK_WORDS]
    if not positions:
        return None
    before, after = words[: positions[0]], words[positions[0] :]
    is_ours = any(os.path.basename(word) == _PROGRAM for word in before)
    if not is_ours or ["--client", client] not in [after[index : index + 2] for index in range(len(after))]:
        return None
    return before[before.index("--store") + 1] if "--store" in before[:-1] else ""
