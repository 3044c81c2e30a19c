"""The help pages: their language, their width, one spelling of each option, and the values that shells complete."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ctxfs.cli import command_table
from ctxfs.cli.main import cli
from tests.live import Live

MAX_SUMMARY_CHARS = 45
# The first words of all summaries. A new one is added here if it is a verb in the imperative.
VERBS = frozenset(
    "Add Approve Bring Build Call Check Cite Compare Compress Confirm Correct Count Create Cut Decide Download Edit "
    "Erase Exchange Explain Export Find Import Issue Join Leave "
    "List Make Manage Measure Mount Move Name Print Propose Pull Push Rebuild Redo "
    "Remove "
    "Restore Revoke Run Search Serve Set Share Show Trust Undo Unmount Verify".split()
)


def commands(
    command: click.Command = cli, path: tuple[str, ...] = (), parent: click.Context | None = None
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Yield every command with the words that call it and its context, the hidden one too."""
    name = path[-1] if path else "ctxfs"
    width = 80 - 2  # click leaves two columns empty
    context = click.Context(command, info_name=name, parent=parent, terminal_width=width, max_content_width=width)
    context.help_option_names = cli.context_settings["help_option_names"]
    yield path, command, context
    if isinstance(command, click.Group):
        names = [*command.list_commands(context), *(() if path else ("daemon",))]
        for name in names:
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from commands(subcommand, (*path, name), context)


COMMANDS = list(commands())
NAMED = [pytest.param(*entry, id=" ".join(entry[0]) or "ctxfs") for entry in COMMANDS]


def options_of(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def test_help_shows_the_summaries_of_the_commands_and_imports_none_of_them() -> None:
    context = click.Context(cli)
    shown = {name: entry.summary for name, entry in command_table.COMMANDS.items() if name not in command_table.HIDDEN}
    written = {
        name: (cli.get_command(context, name) or cli).get_short_help_str(limit=MAX_SUMMARY_CHARS) for name in shown
    }
    assert shown == written
    code = (
        "import sys, ctxfs.cli.main as m; m.cli(['--help'], standalone_mode=False); "
        "print(*(name for name in sys.modules if name.startswith('ctxfs.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1].split()
    assert not {f"ctxfs.cli.{entry.module.partition(':')[0]}" for entry in command_table.COMMANDS.values()} & set(
        modules
    )


@pytest.mark.parametrize(("path", "command", "context"), NAMED)
def test_a_summary_is_short_and_begins_with_a_verb(
    path: tuple[str, ...], command: click.Command, context: click.Context
) -> None:
    summary, *rest = (command.help or "").split("\n")
    assert 0 < len(summary) <= MAX_SUMMARY_CHARS
    assert summary.split()[0] in VERBS
    assert not summary.endswith(".")
    assert not rest or rest[0] == "", "the summary is a paragraph of its own"


@pytest.mark.parametrize(("path", "command", "context"), NAMED)
def test_a_help_page_fits_80_columns_and_cuts_nothing(
    path: tuple[str, ...], command: click.Command, context: click.Context
) -> None:
    page = command.get_help(context)
    assert max(map(len, page.splitlines())) <= 80, page
    body = page.partition("\n\n")[2]  # click's usage line has its own dots: [ARGS]...
    assert "..." not in body
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            if name != "help":
                assert (subcommand.help or "").split("\n")[0] in page


@pytest.mark.parametrize(("path", "command", "context"), NAMED)
def test_the_help_of_an_option_is_a_phrase(
    path: tuple[str, ...], command: click.Command, context: click.Context
) -> None:
    for option in options_of(command):
        assert option.help, option.opts
        assert not option.help.endswith("."), option.help
        assert option.help[0].isupper(), option.help
        assert not re.match(r"(A|An|The|Only|What|Which|Who|How|Where|It|Its)\b", option.help), option.help


def test_each_letter_has_one_long_name_in_all_commands() -> None:
    meanings: dict[str, set[str]] = {}
    for _, command, context in COMMANDS:
        for option in (*options_of(command), command.get_help_option(context)):
            assert option is not None
            long_names = [spelling for spelling in option.opts if spelling.startswith("--")]
            assert long_names, f"{option.opts} has no long name"
            for spelling in option.opts:
                if not spelling.startswith("--"):
                    meanings.setdefault(spelling, set()).update(long_names)
    assert {letter: names for letter, names in meanings.items() if len(names) > 1} == {}
    assert meanings["-n"] == {"--limit"}
    assert meanings["-m"] == {"--reason"}
    assert meanings["-o"] == {"--output"}
    assert meanings["-l"] == {"--long"}


def test_one_meaning_has_one_spelling_in_all_commands() -> None:
    visible = {spelling for _, command, _ in COMMANDS for option in options_of(command) for spelling in option.opts}
    assert not visible & {"--number", "--max-lines", "--as", "--agent", "--path"}
    with_principal = {
        " ".join(path) for path, command, _ in COMMANDS for o in options_of(command) if o.opts == ["--principal"]
    }
    assert with_principal >= {
        "mount",
        "mcp",
        "mcp install",
        "service install",
        "record",
        "history audit",
        "history show",
        "undo",
    }


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("log --number 3", "limit", 3),
        ("meta find --number 3 kind:fact", "limit", 3),
        ("grep -m 3 x", "limit", 3),
        ("grep --max-lines 3 x", "limit", 3),
        ("grep -l x", "files_only", True),
        ("restore -n", "dry_run", True),
        ("undo -n", "dry_run", True),
        ("redo -n", "dry_run", True),
        ("forget -n", "dry_run", True),
        ("mount --as agent:a m", "principal", "agent:a"),
        ("service install --as agent:a m", "principal", "agent:a"),
        ("record --as agent:a x", "principal", "agent:a"),
        ("mcp install codex --as agent:a", "principal", "agent:a"),
        ("history audit --agent agent:a", "principal", "agent:a"),
        ("history show --agent agent:a", "principal", "agent:a"),
        ("context build x --path memory --below pad", "paths", ("memory", "pad")),
        ("tools run x -o json", "form", "result"),
        ("tools run x --output text", "form", "text"),
        ("calls replay x --format result", "form", "result"),
        ("ls -l", "long", True),
        ("ls --long", "long", True),
        ("search x -n 3", "limit", 3),
        ("history replay -n 3", "limit", 3),
    ],
)  # fmt: skip
def test_older_spellings_still_work_and_new_ones_do(line: str, name: str, value: object) -> None:
    words = line.split()
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and not (command.name == "mcp" and words[0] not in command.commands):
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command = found
    assert command.make_context(line, words, resilient_parsing=False).params[name] == value


def test_a_mistyped_subcommand_gets_a_suggestion(tmp_path: Path) -> None:
    for words, name in (
        (("remote", "pul"), "pull"),
        (("tools", "aprove"), "approve"),
        (("history", "replya"), "replay"),
        (("searhc", "x"), "search"),
        (("help", "remote", "pul"), "pull"),
    ):
        done = Live(tmp_path).try_run(*words)
        assert done.returncode == 2
        assert f"Did you mean '{name}'" in done.stderr


def test_help_of_a_subcommand_is_the_page_of_its_option(tmp_path: Path) -> None:
    live = Live(tmp_path)
    assert live.run("help", "context", "build") == live.run("context", "build", "--help")


def completed(store: Path, line: str) -> set[str]:
    """Return the values that bash is offered for the last word of a line."""
    words = line.split(" ")
    environment = {
        "_CTXFS_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "CTXFS_STORE": str(store),
    }
    done = subprocess.run([sys.executable, "-m", "ctxfs"], env=os.environ | environment, capture_output=True, text=True)
    assert done.stderr == ""
    return {value.partition(",")[2] for value in done.stdout.splitlines() if value}


def test_the_shell_completes_every_kind_of_value(offline: Live, tmp_path: Path) -> None:
    task = offline.store / "tree" / "context" / "release"
    task.mkdir(parents=True)
    note = offline.store / "tree" / "memory" / "alice" / "note.md"
    note.parent.mkdir(parents=True)
    note.write_text("an okapi")
    offline.run("snapshot", "before")
    offline.run("branch", "idea")
    offline.run("token", "issue", "agent:carol")
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "backup.git")], check=True)
    offline.run("remote", "add", "backup", str(tmp_path / "backup.git"))
    for line, names in (
        ("ctxfs cat knowledge/handbook/rot", {"knowledge/handbook/rotation.md"}),
        ("ctxfs ls know", {"knowledge/"}),
        ("ctxfs search x --below know", {"knowledge/"}),
        ("ctxfs context build x --below know", {"knowledge/"}),
        ("ctxfs meta get memory/alice/", {"memory/alice/note.md"}),
        ("ctxfs remove ha", {"handbook"}),
        ("ctxfs show x --at bef", {"before"}),
        ("ctxfs restore --to pre", {"prev"}),
        ("ctxfs diff --from bef", {"before"}),
        ("ctxfs snapshot bef", {"before"}),
        ("ctxfs branch diff id", {"idea"}),
        ("ctxfs context next rel", {"release"}),
        ("ctxfs context show rel", {"release"}),
        ("ctxfs policy check agent:al", {"agent:alice"}),
        ("ctxfs undo --principal agent:ca", {"agent:carol"}),
        ("ctxfs token revoke agent:ca", {"agent:carol"}),
        ("ctxfs remote push ba", {"backup"}),
        ("ctxfs history verify --remote ba", {"backup"}),
        ("ctxfs tools show cal", {"calendar"}),
        ("ctxfs calls --tool cal", {"calendar"}),
        ("ctxfs remote pul", {"pull"}),
        ("ctxfs cat nowhere/", set()),
        ("ctxfs remote push zz", set()),
    ):
        assert completed(offline.store, line) == names, line


def test_completion_offers_nothing_where_there_is_no_store(tmp_path: Path) -> None:
    for line in ("ctxfs cat a", "ctxfs undo --principal agent:", "ctxfs remove x", "ctxfs remote push x"):
        assert completed(tmp_path / "none", line) == set()


def test_every_argument_and_option_for_a_value_of_the_store_is_completed() -> None:
    completed_names = {
        "path",
        "paths",
        "below",
        "principal",
        "at",
        "new",
        "old",
        "as_of",
        "remote",
        "tool",
        "task",
        "manifest",
    }
    not_of_the_tree = {("context", "build", "manifest"), ("join", "at"), ("mcp-call", "tool"), ("model", "path")}
    for path, command, _ in COMMANDS:
        for parameter in command.params:
            if parameter.name in completed_names and (*path, parameter.name) not in not_of_the_tree:
                assert parameter._custom_shell_complete is not None, (path, parameter.name)


def test_modules_of_commands_start_fast() -> None:
    """The table and the options import neither the engines, nor the session, nor rich."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, ctxfs.cli.main; print(sorted(m for m in sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert not {"ctxfs.daemon.session", "trio", "numpy", "rich", "msgpack"} & set(ast.literal_eval(loaded))
