"""`<store>/policy.toml`: rules that people write at `.ctxfs/policy.toml` of the tree, beside those of ctxfs.toml."""

import errno
from pathlib import Path as HostPath

from ctxfs.model.errors import path_error
from ctxfs.store.config import replace_file

MAX_BYTES = 1_000_000
_EMPTY = b"""\
# Who may do what where, beside the defaults and ctxfs.toml. A denial wins, then the most specific.
# What is wrong here changes nothing: the last good rules stay, and `ctxfs status` says what is wrong.
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


class PolicyFile:
    """The policy file, read and replaced as a whole. Methods block."""

    def __init__(self, file: HostPath) -> None:
        self._file = file

    def read(self) -> bytes:
        """Return the content; if the file does not exist, return a commented example."""
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            return _EMPTY

    def write(self, data: bytes) -> None:
        """Replace the file durably; raise EFBIG beyond a megabyte."""
        if len(data) > MAX_BYTES:
            raise path_error(errno.EFBIG, "policy.toml", f"{MAX_BYTES} bytes at most")
        replace_file(self._file, data, mode=0o600)
