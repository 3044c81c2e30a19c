"""Access to the objects and refs of one bare git repository.

Objects are read through a long-lived `cat-file` and written as loose objects. A commit uses neither git's index nor a
fork: both cost a hundred times the commit itself in a large tree. One thread at a time uses an instance; a second
instance on the same repository is fine.
"""

import contextlib
import errno
import hashlib
import io
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any, TypeVar

from ctxfs.model.errors import path_error
from ctxfs.versions.objects import git_process
from ctxfs.versions.objects.git_config import restrict_configuration
from ctxfs.versions.objects.git_process import start_git
from ctxfs.versions.objects.object_memory import ObjectMemory, StoredObject
from ctxfs.versions.objects.pack_stream import encode_pack_stream

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
BRANCH = "refs/heads/main"
_MAX_SINGLE_REQUESTS = 8  # above, one process that streams is quicker than as many requests
_MAX_LOOSE_PENDING = 300  # more objects are stored in a pack
_MAX_WRITE_TRIES = 10  # to write an object during a repack
_OID = re.compile(r"[0-9a-f]{40}")


def create_repository(folder: HostPath) -> None:
    """Create the bare repository, or complete an incomplete one. Raise OSError ENOENT if git is not installed."""
    if shutil.which("git") is None:
        raise path_error(errno.ENOENT, "git", "git is not installed; it keeps the versions (apt-get install git)")
    if not (folder / "HEAD").exists() or not (folder / "config").exists() or not (folder / "objects").is_dir():
        git_process.run_git(["init", "--quiet", "--bare", "--template=", "--initial-branch=main"], repo=folder)
    restrict_configuration(folder)


class Repository:
    """Objects and refs of a bare repository."""

    def __init__(self, folder: HostPath) -> None:
        import git  # takes a tenth of a second: the daemon mounts first
        import gitdb
        from git.exc import GitError

        class CatFile(git.Git):
            """GitPython's reader of objects, whose child processes are started by `start_git`."""

            def _get_persistent_cmd(self, attr_name: str, cmd_name: str, *args: Any, **kwargs: Any) -> Any:
                child = getattr(self, attr_name)
                if child is None:
                    arguments = ["cat-file", *(f"--{name.replace('_', '-')}" for name in kwargs)]
                    process = start_git(arguments, repo=folder, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
                    child = self.AutoInterrupt(process, arguments)
                    setattr(self, attr_name, child)
                return child

        self.folder = folder
        self._read_errors = (ValueError, GitError, OSError)
        self._stream_type = gitdb.IStream
        self._objects = CatFile(folder)
        self._loose = gitdb.LooseObjectDB(str(folder / "objects"))
        self._ref_process: subprocess.Popen[bytes] | None = None
        self._memory = ObjectMemory()
        self._is_deferring = False
        self._new_oids: list[str] | None = None

    def close(self) -> None:
        """End the child processes."""
        self._objects.clear_cache()
        self._stop_refs()

    # objects

    def read(self, oid: str) -> bytes:
        """Return the content of an object. Raise OSError EIO if it is missing or unreadable."""
        return self.read_kind(oid)[1]

    def read_kind(self, oid: str) -> tuple[str, bytes]:
        """Return (`blob` | `tree` | `commit` | `tag`, content) of an object. Raise OSError EIO as `read` does."""
        if not is_oid(oid):
            raise path_error(errno.EIO, oid, "not the id of an object")
        item = self._memory.find(oid)
        if item is not None:
            return item
        answer: tuple[Any, Any, int, bytes] = self._request(self._objects.get_object_data, oid)
        item = StoredObject(answer[1].decode(), answer[3])
        self._memory.cache(oid, item)
        return item

    def size(self, oid: str) -> int:
        """Return the bytes of an object's content. Raise OSError EIO if it is missing."""
        item = self._memory.find(oid)
        if item is not None:
            return len(item.data)
        return int(self._request(self._objects.get_object_header, oid)[2])

    def describe(self, oid: str) -> tuple[str, int]:
        """Return the kind and the bytes of an object. Raise OSError EIO if it is missing."""
        item = self._memory.find(oid)
        if item is not None:
            return item.kind, len(item.data)
        if not is_oid(oid):
            raise path_error(errno.EIO, oid, "not the id of an object")
        header: tuple[Any, Any, Any] = self._request(self._objects.get_object_header, oid)
        return header[1].decode(), int(header[2])

    def _request(self, request: Callable[[str], _Result], oid: str) -> _Result:
        """Send a request about an object to the long-lived child process.

        Retry once with a new process, since the old one may have died or be out of step. Raise OSError EIO then.
        """
        try:
            return request(oid)
        except self._read_errors:
            self._objects.clear_cache()
        try:
            return request(oid)
        except self._read_errors as error:
            self._objects.clear_cache()
            raise path_error(errno.EIO, oid, f"the object is not in the repository: {error}") from error

    def sizes(self, oids: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of many objects, by id. Raise OSError EIO if one is missing."""
        sizes, unique_oids = dict[str, int](), list[str]()
        for oid in dict.fromkeys(oids):
            item = self._memory.find(oid)
            if item is not None:
                sizes[oid] = len(item.data)
            else:
                unique_oids.append(oid)
        if len(unique_oids) <= _MAX_SINGLE_REQUESTS:
            return sizes | {oid: self.size(oid) for oid in unique_oids}
        out = self.run(
            "cat-file", "--buffer", "--batch-check=%(objectname) %(objectsize)", data=argument_list(unique_oids)
        )
        for line in out.decode().splitlines():
            oid, _, size = line.partition(" ")
            if not size.isdigit():
                raise path_error(errno.EIO, oid, "the object is not in the repository")
            sizes[oid] = int(size)
        return sizes

    def read_many(self, oids: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of many objects, by id, all in memory. Raise OSError EIO if one is missing."""
        contents, unique_oids = dict[str, bytes](), list[str]()
        for oid in dict.fromkeys(oids):
            item = self._memory.find(oid)
            if item is not None:
                contents[oid] = item.data
            else:
                unique_oids.append(oid)
        if len(unique_oids) <= _MAX_SINGLE_REQUESTS:
            return contents | {oid: self.read(oid) for oid in unique_oids}
        out = self.run("cat-file", "--batch", "--buffer", data=argument_list(unique_oids))
        offset = 0
        for oid in unique_oids:
            end = out.index(b"\n", offset)
            head = out[offset:end].split()
            if len(head) != 3:
                raise path_error(errno.EIO, oid, "the object is not in the repository")
            offset = end + 1 + int(head[2]) + 1
            contents[oid] = out[end + 1 : offset - 1]
        return contents

    def keep(self, kind: str, contents: Mapping[str, bytes]) -> None:
        """Keep small objects of the repository in memory for later reads, within the bounds of `ObjectMemory`."""
        for oid, data in contents.items():
            self._memory.cache(oid, StoredObject(kind, data))

    def copy_blob(self, oid: str, target: int) -> None:
        """Write the content of a blob into the open file `target`. Raise OSError EIO if it is missing."""
        with start_git(
            ["cat-file", "blob", oid], repo=self.folder, stdout=target, stderr=subprocess.DEVNULL
        ) as process:
            pass
        if process.returncode:
            raise path_error(errno.EIO, oid, "the object is not in the repository")

    def has(self, oid: str) -> bool:
        """Return True if the repository contains the object."""
        try:
            self.size(oid)
        except OSError:
            return False
        return True

    def existing(self, oids: Iterable[str]) -> list[str]:
        """Return those of many ids of which the repository contains the object, by one process."""
        wanted = sorted(oids)
        listed = self.run("cat-file", "--batch-check=%(objectname)", data=argument_list(wanted)) if wanted else b""
        return [line for line in listed.decode().splitlines() if is_oid(line)]

    @contextlib.contextmanager
    def collecting_new(self) -> Iterator[list[str]]:
        """Yield a list that receives the id of each object that the block writes and that the repository lacked."""
        self._new_oids = oids = list[str]()
        try:
            yield oids
        finally:
            self._new_oids = None

    def _is_new(self, oid: str) -> bool:
        """Return True for an object that the repository lacks. The answer of a healthy child process is final."""
        if self._memory.find(oid) is not None or (self.folder / "objects" / oid[:2] / oid[2:]).exists():
            return False
        try:
            self._objects.get_object_header(oid)
        except ValueError:  # git has answered that it is missing
            return True
        except self._read_errors:
            return not self.has(oid)
        return False

    def write(self, kind: str, data: bytes) -> str:
        """Store an object and return its id. Raise OSError if the disk refuses it.

        No partly written object gets a name.
        """
        if self._new_oids is not None and self._is_new(oid := object_id(kind, data)):
            self._new_oids.append(oid)
        if self._is_deferring:
            oid = object_id(kind, data)
            self._memory.add_pending(oid, StoredObject(kind, data))
            return oid
        oid = self._write_loose(kind, data)
        self._memory.cache(oid, StoredObject(kind, data))
        return oid

    @contextlib.contextmanager
    def deferring_writes(self) -> Iterator[None]:
        """Keep the objects that the block writes in memory, until `store_pending` or `drop_pending`.

        Other objects that refer to them, and refs, must not be written before.
        """
        was_deferring, self._is_deferring = self._is_deferring, True
        try:
            yield
        finally:
            self._is_deferring = was_deferring

    @property
    def pending_bytes(self) -> int:
        """The bytes of the contents that are to be stored."""
        return self._memory.pending_bytes

    def store_pending(self) -> None:
        """Store the objects of `deferring_writes`: many in a pack. Raise OSError as `write` does; they stay in memory then."""
        pending = self._memory.pending
        if len(pending) > _MAX_LOOSE_PENDING:
            stream = b"".join(encode_pack_stream(pending.values()))
            self.run("index-pack", "--stdin", data=stream)
        else:
            for oid, item in pending.items():
                self._write_loose(*item)
                self._memory.cache(oid, item)
        self._memory.take_pending()

    def drop_pending(self) -> None:
        """Forget the objects of `deferring_writes` that are not stored."""
        self._memory.take_pending()

    def _write_loose(self, kind: str, data: bytes) -> str:
        for tries_left in reversed(range(_MAX_WRITE_TRIES)):
            stream = self._stream_type(kind.encode(), len(data), io.BytesIO(data))
            try:
                oid: str = self._loose.store(stream).hexsha.decode()
                break
            except OSError as error:
                # A concurrent repack removes emptied folders, and loose files that a pack holds: retry.
                if error.errno == errno.ENOENT and tries_left:
                    continue
                cause = f"cannot write to the repository: {error.strerror or error}"
                raise path_error(error.errno or errno.EIO, str(self.folder), cause) from error
        return oid

    # refs

    def read_ref(self, name: str) -> str | None:
        """Return the commit id that a ref names; None if there is no such ref, or it is damaged."""
        with contextlib.suppress(OSError):
            text = (self.folder / name).read_text(errors="replace").strip()
            if is_oid(text):
                return text
        with contextlib.suppress(OSError):
            for line in (self.folder / "packed-refs").read_text().splitlines():
                oid, _, ref = line.partition(" ")
                if ref == name and is_oid(oid):
                    return oid
        return None

    def list_refs(self, below: str, *, peel: bool = True) -> dict[str, str]:
        """Return the refs below `below` (such as `refs/tags/`): name without that prefix → commit id.

        Without `peel` the id is that of an annotated tag itself.
        """
        line_format = "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(refname)"
        line_format = line_format if peel else "--format=%(objectname) %(refname)"
        lines = self.run("for-each-ref", line_format, below).decode("utf-8", "replace").splitlines()
        return {name.removeprefix(below): oid for oid, _, name in (line.partition(" ") for line in lines)}

    def update_ref(self, name: str, new: str, old: str | None) -> None:
        """Move a ref from `old` to `new`. With `old` None it must not exist.

        Raise OSError EBUSY if it has another value, EIO if an id is invalid or git fails.
        """
        # An empty new value would delete the branch: a dead child process must never cause that.
        if not is_oid(new) or not (old is None or is_oid(old)):
            raise path_error(errno.EIO, name, f"not the id of a commit: {new!r}")
        self._run_transaction(f"update {name} {new} {old or '0' * 40}", name)

    def delete_ref(self, name: str, old: str) -> None:
        """Remove a ref whose value is `old`. Raise OSError EBUSY if it has another value."""
        if not is_oid(old):
            raise path_error(errno.EIO, name, f"not the id of a commit: {old!r}")
        self._run_transaction(f"delete {name} {old}", name)

    def delete_refs(self, prefix: str) -> None:
        """Remove all refs that begin with `prefix`."""
        for name, oid in self.list_refs(prefix, peel=False).items():
            self.delete_ref(f"{prefix}{name}", oid)

    def _run_transaction(self, command: str, name: str) -> None:
        for attempt in (1, 2):
            process = self._start_refs()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(f"start\n{command}\ncommit\n".encode())
                process.stdin.flush()
                responses = [process.stdout.readline(), process.stdout.readline()]
            except BrokenPipeError:
                responses = []
            if responses == [b"start: ok\n", b"commit: ok\n"]:
                return
            message = self._stop_refs()
            # A process that was killed leaves no error text: retry once with a new one.
            if message or attempt == 2:
                raise path_error(
                    errno.EBUSY if "expected" in message else errno.EIO, name, f"git update-ref: {message}"
                )

    def _start_refs(self) -> "subprocess.Popen[bytes]":
        if self._ref_process is None or self._ref_process.poll() is not None:
            self._stop_refs()
            self._ref_process = start_git(["update-ref", "--stdin"], repo=self.folder, stdin=subprocess.PIPE)
        return self._ref_process

    def _stop_refs(self) -> str:
        """End the `update-ref` process and return its error text."""
        process, self._ref_process = self._ref_process, None
        if process is None:
            return ""
        try:
            _, message = process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            process.kill()
            _, message = process.communicate()
        return message.decode(errors="replace").strip()

    # rare operations, with a process for each

    def run(self, *arguments: str | bytes, data: bytes | None = None) -> bytes:
        """Run a git command and return its output. Raise OSError EIO with git's error text if it fails."""
        return git_process.run_git(arguments, repo=self.folder, data=data)

    def run_remote(self, *arguments: str | bytes) -> bytes:
        """Run a git command that reaches a remote, with the keys of the user's configuration that it needs."""
        return git_process.run_git(arguments, repo=self.folder, remote=True)

    def run_maintenance(self, *arguments: str) -> None:
        """Run a git command that deletes or moves objects, at low priority."""
        git_process.run_maintenance(arguments, repo=self.folder)

    def close_readers(self) -> None:
        """End the child processes that may have packs open which are deleted, and forget cached objects."""
        self._objects.clear_cache()
        self._memory.clear()

    def loose_objects(self) -> Iterator[os.DirEntry[str]]:
        """Yield the files of loose objects."""
        for number in range(256):
            with (
                contextlib.suppress(FileNotFoundError),
                os.scandir(self.folder / "objects" / f"{number:02x}") as entries,
            ):
                yield from entries


def object_id(kind: str, data: bytes) -> str:
    """Return the id that an object with this content has."""
    return hashlib.sha1(b"%b %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


def is_oid(text: str) -> bool:
    """Return True for 40 hexadecimal digits."""
    return bool(_OID.fullmatch(text))


_SCHEME = re.compile(r"(?i)(file|git|https?|ssh|git\+ssh|ssh\+git)://(?!-)[^/]*")
_HOST_AND_PATH = re.compile(r"[^/:]+:(?!:).*")


def check_url(url: str) -> str:
    """Return the address of a remote if git can safely receive it. Raise OSError EINVAL for others.

    Options of git and helper programs (`ext::…`) are refused.
    """
    is_refused = not url.isprintable() or not url or url.startswith("-") or "::" in url.split("/")[0]
    if "://" in url:
        match = _SCHEME.match(url)
        is_refused = is_refused or match is None or "@-" in match[0]
    elif _HOST_AND_PATH.fullmatch(url):
        is_refused = is_refused or "@-" in url.partition(":")[0]
    if is_refused:
        raise path_error(errno.EINVAL, url, "not the place of a repository: a path, or an ssh, https or file URL")
    return url


def is_local(url: str) -> bool:
    """Return True for an address whose repository git opens itself, on this machine."""
    return url.lower().startswith("file://") or ("://" not in url and not _HOST_AND_PATH.fullmatch(url))


def argument_list(items: Sequence[str]) -> bytes:
    """Return the items as lines for a command's standard input."""
    return "".join(f"{item}\n" for item in items).encode()
