"""Test the external commands that people configure as judge or summariser."""

import pytest
import trio

from ctxfs.context.external_commands import run_command
from ctxfs.model.errors import CommandError


def test_a_command_answers_what_it_was_asked() -> None:
    assert trio.run(run_command, "cat", {"task": "zażółć"}) == '{"task": "zażółć"}'


def test_a_command_without_end_is_ended() -> None:
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
def test_what_is_wrong_with_a_command_is_said(command: str, fault: str) -> None:
    with pytest.raises(CommandError, match=fault):
        trio.run(run_command, command, [])
