"""The calls of tools in records: their arguments, their targets, and whether they failed. Pure."""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ctxfs.context.episodes.excerpts import Excerpt, paths_in

_MAX_CALLS = 1_000  # whose result may still come
_MAX_FAILURES = 200
_MAX_JSON_CHARS = 1 << 20
_ARGUMENT_MEMBERS = ("arguments", "input", "data", "text")
_ID_MEMBERS = ("call", "call_id", "tool_use_id", "tool_call_id", "id")
_FAILED_STATUSES = frozenset(("error", "failed", "failure"))
_ERROR_HEAD = re.compile(
    r"\s{0,20}(?:error\b|fatal:|traceback \(most recent|exception\b|(?:command|process)[^\n]{0,80}(?:failed|exited with code [1-9])|"
    r"exit (?:code|status):? [1-9])",
    re.IGNORECASE,
)


def arguments_of(record: Mapping[str, Any]) -> object:
    """Return the arguments of a call; JSON in a text is decoded."""
    for name in _ARGUMENT_MEMBERS:
        value = record.get(name)
        if isinstance(value, str) and value[:1] in ("{", "[") and len(value) <= _MAX_JSON_CHARS:
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        if value not in (None, ""):
            return value
    return None


def is_failure(record: Mapping[str, Any]) -> bool:
    """Return True for the result of a call that failed, by its members, else by the beginning of its text."""
    for part in (record, record.get("data")):
        if not isinstance(part, Mapping):
            continue
        if part.get("is_error") is True or part.get("ok") is False or part.get("success") is False:
            return True
        if part.get("ok") is True or part.get("success") is True or part.get("is_error") is False:
            return False
        code = part.get("exit_code", part.get("exitCode"))
        if isinstance(code, int) and not isinstance(code, bool):
            return code != 0
        if isinstance(part.get("status"), str):
            return str(part["status"]).casefold() in _FAILED_STATUSES
    text = record.get("text")
    return isinstance(text, str) and _ERROR_HEAD.match(text[:400]) is not None


class ToolOutcomes:
    """The failed calls that no later call of the same tool with the same target made good."""

    def __init__(self) -> None:
        self._targets = OrderedDict[str, str]()  # id of a call → its target
        self._last_target = ""
        self._failures = OrderedDict[str, Excerpt]()

    def add_call(self, record: Mapping[str, Any], arguments: object) -> None:
        """Remember the target of a call: its tool with its first path, or with the first word of its command."""
        self._last_target = _target_of(record, arguments)
        if call := _id_of(record):
            self._targets[call] = self._last_target
            while len(self._targets) > _MAX_CALLS:
                self._targets.popitem(last=False)

    def add_result(self, record: Mapping[str, Any], failure: Excerpt | None) -> None:
        """Add a failure, or without one remove the failure that this result made good."""
        target = self._targets.pop(_id_of(record), "") or self._last_target or str(record.get("tool", ""))[:100]
        self._failures.pop(target, None)
        if failure is not None:
            self._failures[target] = failure
            while len(self._failures) > _MAX_FAILURES:
                self._failures.popitem(last=False)

    @property
    def failures(self) -> list[Excerpt]:
        """The results of failed calls, oldest first."""
        return list(self._failures.values())


def _id_of(record: Mapping[str, Any]) -> str:
    return next((str(record[name])[:200] for name in _ID_MEMBERS if isinstance(record.get(name), str | int)), "")


def _target_of(record: Mapping[str, Any], arguments: object) -> str:
    tool = str(record.get("tool", ""))[:100]
    if paths := paths_in(arguments):
        return f"{tool} {paths[0]}"
    command = arguments.get("command", "") if isinstance(arguments, Mapping) else arguments
    words = command if isinstance(command, list) else str(command)[:400].split()
    return f"{tool} {str(words[0])[:100]}" if words else tool
