"""The run of a command that proposes changes of memories: in the sandbox of tools, with bounded time and output.

The command sees programs and libraries of the machine, and copies of the files that its command line names. It sees
neither the store nor a mounted tree, and has no network unless the settings give it one.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any

from ctxfs.exec.definition import Tool
from ctxfs.exec.runner import run_tool
from ctxfs.exec.sandbox import Sandbox
from ctxfs.model.errors import CommandError
from ctxfs.store.settings import Settings
from ctxfs.threads import blocking

_TIMEOUT_SECONDS = 300.0
_MAX_OUTPUT_BYTES = 4_000_000
_MAX_PROGRAM_BYTES = 10_000_000
_MEMORY_MB = 2048


class Consolidator:
    """Runs commands that propose."""

    def __init__(self, settings: Callable[[], Settings], hidden: Callable[[], Sequence[str]]) -> None:
        """`hidden` returns the host folders that a command must not see."""
        self._settings = settings
        self._hidden = hidden

    async def __call__(self, command: str, question: Mapping[str, Any]) -> str:
        """Return the stdout of a command that gets a question on stdin.

        Raise CommandError if it cannot be started, fails, or exceeds its time, memory or output.
        """
        settings = self._settings()
        with tempfile.TemporaryDirectory(prefix="ctxfs-consolidator-") as folder:
            words = await blocking(_copy_files, command, os.path.realpath(folder))
            tool = Tool(
                "consolidator",
                "propose changes of memories",
                {},
                os.path.realpath(folder),
                tuple(words),
                read_only=True,
                destructive=False,
                open_world=settings.memory.consolidator_online,
                timeout_seconds=_TIMEOUT_SECONDS,
                memory_mb=_MEMORY_MB,
                output_bytes=_MAX_OUTPUT_BYTES,
            )
            sandbox = Sandbox(self._hidden(), is_enabled=settings.tools.walls)
            outcome = await run_tool(tool, question, {}, lambda share, message: None, sandbox)
        if not outcome.ok:
            lines = outcome.stderr.decode("utf-8", "replace").strip().splitlines()
            cause = outcome.fault or f"it failed with {outcome.exit_code}: {(lines or ['no error text'])[-1][:300]}"
            raise CommandError(cause, "")
        return outcome.stdout.decode("utf-8", "replace")


def _copy_files(command: str, folder: str) -> list[str]:
    """Return the words of a command line, with files that it names replaced by copies. Blocks.

    Raise CommandError for a malformed line, and for files that are too large.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CommandError(f"'{command}' is not a command: {error}", "") from error
    if not words:
        raise CommandError("the command is empty", "")
    copied = []
    for number, word in enumerate(words):
        if os.path.isabs(word) and os.path.isfile(word) and not word.startswith(("/bin/", "/usr/", "/lib")):
            if os.path.getsize(word) > _MAX_PROGRAM_BYTES:
                raise CommandError(f"'{word}' is too large for a sandbox", "")
            target = HostPath(folder) / f"{number}-{os.path.basename(word)}"
            shutil.copy(word, target)
            word = str(target)
        copied.append(word)
    return copied
