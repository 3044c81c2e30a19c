"""Groups of commands that suggest the nearest name for a mistyped one."""

import difflib

import click

_MAX_SUGGESTIONS = 3


class CommandGroup(click.Group):
    """A group whose error for an unknown subcommand contains the most similar names."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand; raise UsageError with suggestions if it is unknown, except during completion."""
        name = args[0] if args else ""
        is_command_name = bool(name) and not name.startswith("-")
        if is_command_name and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            ctx.fail(f"No such command {name!r}.{suggestion(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def suggestion(name: str, names: list[str]) -> str:
    """Return a sentence with the names that are most like a mistyped one; empty if there is none."""
    similar = difflib.get_close_matches(name, names, _MAX_SUGGESTIONS)
    return f" Did you mean {' or '.join(repr(candidate) for candidate in similar)}?" if similar else ""
