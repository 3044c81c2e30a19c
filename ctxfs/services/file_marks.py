"""Marks of files in citations: keyed hashes of 24 bits, so that a citation names no file that its reader may not see."""

import contextlib
import hashlib
import secrets
from functools import cached_property
from pathlib import Path as HostPath

from ctxfs.memory.citations import FileMark
from ctxfs.store.durable_file import replace_file
from ctxfs.store.lock import exclusive_folder

_KEY_BYTES = 32
_MARK_BYTES = 3


class FileMarker:
    """Marks files by a key that the store alone has. In another store the marks of a citation match no file."""

    def __init__(self, key_file: HostPath) -> None:
        self._key_file = key_file

    def mark(self, digest: str, path: str, inode: int) -> FileMark:
        """Return the mark of a file in the citation with a digest. Raise OSError without a key."""
        return FileMark(self._hash(f"{digest}\0path\0{path}"), self._hash(f"{digest}\0inode\0{inode}"))

    def _hash(self, text: str) -> int:
        data = text.encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(data, key=self._key, digest_size=_MARK_BYTES).digest(), "big")

    @cached_property
    def _key(self) -> bytes:
        with exclusive_folder(self._key_file.parent):
            with contextlib.suppress(FileNotFoundError):
                key = self._key_file.read_bytes()
                if len(key) == _KEY_BYTES:
                    return key
            key = secrets.token_bytes(_KEY_BYTES)
            replace_file(self._key_file, key, mode=0o600)
            return key
