"""Files of rules that people write at `.ctxfs/` of the tree: `<store>/policy.toml` and `<store>/memory.toml`."""

import errno
from pathlib import Path as HostPath

from ctxfs.model.errors import path_error
from ctxfs.store.durable_file import replace_file

MAX_BYTES = 1_000_000
POLICY_EXAMPLE = b"""\
# Who may do what where, beside the defaults and ctxfs.toml. A denial wins, then the most specific.
# A mistake changes nothing: the last good rules stay in force, and `ctxfs status` names it.
#
# [groups]
# writers = ["agent:alice", "agent:bob"]
#
# [[rule]]
# principal = "group:writers"
# path = "memory/shared/**"
# verbs = "rw"
# effect = "allow"
# expires = 2026-12-31T00:00:00Z
"""


class ControlFile:
    """A file of rules, read and replaced as a whole. Methods block."""

    def __init__(self, file: HostPath, example: bytes) -> None:
        """Take the file, and its content while it does not exist: comments only."""
        self.file = file
        self._example = example

    def read(self) -> bytes:
        """Return the content; if the file does not exist, return a commented example."""
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return self._example

    def write(self, data: bytes) -> None:
        """Replace the file durably; raise EFBIG beyond a megabyte."""
        if len(data) > MAX_BYTES:
            raise path_error(errno.EFBIG, self.file.name, f"{MAX_BYTES} bytes at most")
        replace_file(self.file, data, mode=0o600)
