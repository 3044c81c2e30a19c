"""A loopback file system on mfusepy in its usual style, for `filesystem`.

`python -m benchmarks.loopback SOURCE MOUNTPOINT`
"""

import os
import sys
from typing import Any

import mfusepy


class Loopback(mfusepy.Operations):  # type: ignore[misc]
    """Operations that map every path to one below the working directory."""

    use_ns = True

    def __init__(self, root: str) -> None:
        self._root = root

    def init(self, path: str) -> None:
        os.chdir(self._root)  # libfuse changes to / before

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        stat = os.lstat("." + path)
        names = "st_gid st_mode st_nlink st_size st_uid st_ino st_blocks".split()
        times = {name: getattr(stat, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
        return {name: getattr(stat, name) for name in names} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir("." + path)]

    def open(self, path: str, flags: int) -> int:
        return os.open("." + path, flags)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open("." + path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def fsync(self, path: str, datasync: bool, fh: int) -> int:
        os.fsync(fh)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate("." + path, length)
        return 0

    def unlink(self, path: str) -> int:
        os.unlink("." + path)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir("." + path, mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir("." + path)
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename("." + old, "." + new)
        return 0

    def symlink(self, target: str, source: str) -> int:
        os.symlink(source, "." + target)
        return 0

    def link(self, target: str, source: str) -> int:
        os.link("." + source, "." + target)
        return 0

    def readlink(self, path: str) -> str:
        return os.readlink("." + path)

    def chmod(self, path: str, mode: int) -> int:
        os.chmod("." + path, mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.chown("." + path, uid, gid, follow_symlinks=False)
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        if times:
            os.utime("." + path, ns=times)
        else:
            os.utime("." + path)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        statvfs = os.statvfs("." + path)
        names = "f_bavail f_bfree f_blocks f_bsize f_favail f_ffree f_files f_flag f_frsize f_namemax".split()
        return {name: getattr(statvfs, name) for name in names}


if __name__ == "__main__":
    mfusepy.FUSE(
        Loopback(os.path.realpath(sys.argv[1])),
        sys.argv[2],
        foreground=True,
        nothreads=True,
        entry_timeout=3600,
        attr_timeout=3600,
        negative_timeout=3600,
        kernel_cache=True,
        auto_unmount=True,
    )
