"""Members of ZIP archives in office documents, within bounds: number, size, compression, names. Nothing is unpacked to disk."""

import io
import posixpath
import zipfile
import zlib
from urllib.parse import unquote

from ctxfs.index.extract.formats import UnreadableFile

_MAX_MEMBERS = 10_000
_MAX_MEMBER_BYTES = 64_000_000
_MAX_TOTAL_BYTES = 128_000_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED_FLAG = 0x1


class Archive:
    """The members of an archive by name. `read` counts the bytes of all members, and raises `UnreadableFile` above a limit."""

    def __init__(self, data: bytes) -> None:
        if data.startswith(_OLE):
            raise UnreadableFile("encrypted, or in an old format")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise UnreadableFile(f"no sound archive ({' '.join(str(error).split())[:80]})") from error
        members = self._zip.infolist()
        if len(members) > _MAX_MEMBERS:
            raise UnreadableFile(f"more than {_MAX_MEMBERS} members")
        self._members = {member.filename.lstrip("/"): member for member in members}
        self._by_folded_name = {name.lower(): name for name in self._members}
        self._remaining = _MAX_TOTAL_BYTES

    @property
    def names(self) -> list[str]:
        """Return the names of the members."""
        return list(self._members)

    def find(self, name: str) -> bytes | None:
        """Return the content of a member; None if there is none. Names ignore case, as office programs do."""
        return self.read(name) if self._resolve(name) else None

    def read(self, name: str) -> bytes:
        """Return the content of a member."""
        member = self._members.get(self._resolve(name))
        if member is None:
            raise UnreadableFile(f"'{name[:80]}' is missing in it")
        if member.flag_bits & _ENCRYPTED_FLAG:
            raise UnreadableFile("encrypted")
        if member.compress_type not in _METHODS:
            raise UnreadableFile("compressed by an unusual method")
        limit = min(_MAX_MEMBER_BYTES, self._remaining)
        try:
            with self._zip.open(member) as file:
                data = file.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError) as error:
            raise UnreadableFile(f"damaged ({' '.join(str(error).split())[:80]})") from error
        if len(data) > limit:
            raise UnreadableFile("unpacks to too much")
        self._remaining -= len(data)
        return data

    def _resolve(self, name: str) -> str:
        for candidate in (name, unquote(name)):
            if candidate in self._members:
                return candidate
        return self._by_folded_name.get(name.lower(), "")


def join_name(base: str, target: str) -> str:
    """Return the name of a member that another one, `base`, refers to by a relative or absolute reference."""
    path = target.partition("#")[0]
    joined = path if path.startswith("/") else posixpath.join(posixpath.dirname(base), path)
    return posixpath.normpath(joined).lstrip("/")
