"""The registry of tools: the tools of all providers, and the reason why one may not run.

Tools that come with ctxfs need no approval. The others run once a person has approved them in their current form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ctxfs.exec.approvals import Approval, Approvals, difference
from ctxfs.exec.definition import Tool
from ctxfs.model.errors import CommandError, not_found


class ToolProvider(Protocol):
    """A source of tools. Methods may block for a moment."""

    trusted: bool  # its tools need no approval

    def tools(self) -> tuple[Mapping[str, Tool], Mapping[str, str]]:
        """Return (tools by name, name → reason why it is no tool)."""
        ...

    def digest(self, tool: Tool) -> str:
        """Return a digest that changes with everything that affects the tool's behaviour.

        Raise OSError or CommandError.
        """
        ...

    def definition(self, tool: Tool) -> Mapping[str, Any]:
        """Return the current definition for people who approve it. A program may be run for it. Raise CommandError."""
        ...


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool as it is offered; `refusal` is the reason why it may not run, or empty."""

    tool: Tool
    refusal: str = ""


_Entries = tuple[dict[str, tuple[Tool, ToolProvider]], dict[str, str]]


class ToolRegistry:
    """The tools of all providers. Methods block for a moment.

    `providers` returns the providers in order of precedence: the first one with a name provides it.
    """

    def __init__(
        self,
        providers: Callable[[], Sequence[ToolProvider]],
        approvals: Approvals,
        setting: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._providers = providers
        self._setting = setting
        self._merged: tuple[object, _Entries, object] | None = None
        self._sorted_tools: tuple[object, dict[str, Tool]] | None = None
        self._approvals = approvals

    def tools(self) -> tuple[dict[str, Tool], dict[str, str]]:
        """Return (tools by name, name → reason why it is no tool), including tools that may not run.

        The objects are the same while nothing changes.
        """
        entries, faults = self._merge()
        if self._sorted_tools is None or self._sorted_tools[0] is not entries:
            self._sorted_tools = entries, {name: tool for name, (tool, _) in sorted(entries.items())}
        return self._sorted_tools[1], faults

    def offers(self) -> tuple[list[ToolOffer], dict[str, str]]:
        """Return all tools with their refusals, sorted by name, and the faults as `tools` does."""
        entries, faults = self._merge()
        approved = self._approvals.all()
        return [
            ToolOffer(tool, self._refusal(tool, provider, approved)) for _, (tool, provider) in sorted(entries.items())
        ], faults

    def find(self, name: str) -> ToolOffer:
        """Return one tool with its refusal. Raise OSError ENOENT."""
        entry = self._merge()[0].get(name)
        if entry is None:
            raise not_found(f"tools/{name}")
        return ToolOffer(entry[0], self._refusal(*entry, self._approvals.all()))

    def difference(self, name: str) -> str:
        """Return a diff from a tool's approved definition to its current one; empty if they are equal.

        Raise CommandError.
        """
        tool, provider = self._find_approvable(name)
        approval = self._approvals.all().get(name)
        return difference(approval.definition if approval else {}, provider.definition(tool))

    def digest(self, name: str) -> str:
        """Return the digest that an approval would store now. Raise CommandError."""
        return self._digest(*self._find_approvable(name))

    def approve(self, names: Sequence[str], shown: str = "") -> None:
        """Approve tools in their current form. `shown` is the digest of the definition that the person saw.

        Raise CommandError for a name that is no tool, and for a tool that has changed since it was shown.
        """
        approvals = {}
        for name in names:
            tool, provider = self._find_approvable(name)
            digest = self._digest(tool, provider)
            definition = dict(provider.definition(tool))
            if (shown and digest != shown) or self._digest(tool, provider) != digest:
                raise CommandError(
                    f"'{name}' has changed since it was shown", f"look again: ctxfs tools approve {name}"
                )
            approvals[name] = Approval(digest, definition)
        self._approvals.add(approvals)

    def _merge(self) -> tuple[dict[str, tuple[Tool, ToolProvider]], dict[str, str]]:
        listings = [(provider, *provider.tools()) for provider in self._providers()]
        stamp = tuple((id(tools), id(reasons)) for _, tools, reasons in listings)
        if self._merged is not None and self._merged[0] == stamp:
            return self._merged[1]
        entries: dict[str, tuple[Tool, ToolProvider]] = {}
        faults: dict[str, str] = {}
        for provider, tools, reasons in listings:
            faults |= reasons
            for name, tool in tools.items():
                if name in entries:
                    kind = "built-in one" if entries[name][0].builtin else "one"
                    faults[name] = f"tool '{name}': there is a {kind} of this name already: rename its folder"
                else:
                    entries[name] = tool, provider
        # `listings` is part of the cache, so that the ids of its mappings are not reused.
        self._merged = stamp, (entries, faults), listings
        return entries, faults

    def _find_approvable(self, name: str) -> tuple[Tool, ToolProvider]:
        entries, faults = self._merge()
        if name in entries:
            if entries[name][1].trusted:
                raise CommandError(f"'{name}' comes with ctxfs and needs no approval", "")
            return entries[name]
        if name in faults:
            raise CommandError(faults[name], "mend it, then approve it")
        raise CommandError(f"there is no tool '{name}'", "see: ctxfs tools list")

    @staticmethod
    def _digest(tool: Tool, provider: ToolProvider) -> str:
        try:
            return provider.digest(tool)
        except OSError as error:
            raise CommandError(f"'{tool.name}' cannot be read: {error}", "check its permissions") from error

    def _refusal(self, tool: Tool, provider: ToolProvider, approved: Mapping[str, Approval]) -> str:
        if tool.setting and not self._setting(tool.setting):
            return f"it is off: set tools.{tool.setting} in ctxfs.toml"
        if provider.trusted:
            return ""
        if tool.name not in approved:
            return "it has not been approved"
        try:
            same = provider.digest(tool) == approved[tool.name].digest
        except (OSError, CommandError) as error:
            return str(error)
        return "" if same else "it has changed since it was approved"
