"""Test the external commands that people configure as judge or summariser."""

import pytest
import trio

from ctxfs.context.external_commands import run_command
from ctxfs.model.errors import CommandError


def test_command_receives_its_input_and_returns_its_output() -> None:
    assert trio.run(run_command, "cat", {"task": "zażółć"}) == '{"task": "zażółć"}'


def test_command_without_end_is_killed() -> None:
    with pytest.raises(CommandError, match="said more than 4000000 bytes"):
        trio.run(run_command, "yes", [])


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("sh -c 'echo broken >&2; exit 3'", "failed with 3: broken"),
        ("/no/such/program", "cannot be started"),
        ("", "cannot be started"),
        ("'", "is not a command"),
    ],
)
def test_failure_of_a_command_is_reported(command: str, fault: str) -> None:
    with pytest.raises(CommandError, match=fault):
        trio.run(run_command, command, [])
