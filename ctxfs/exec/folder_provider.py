"""Tools that are folders: a `tool.toml` and any program, or a program `run` that prints its definition for `--schema`.

The folders are those that come with ctxfs, those in `<store>/tools`, and those in `tools/` of a source whose tools a
person allowed.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as HostPath
from typing import Any

from ctxfs.exec.definition import MANIFEST, NAME, Tool, parse_tool
from ctxfs.exec.sandbox import Sandbox, SandboxView, find_bubblewrap, open_filter, sandboxed_command
from ctxfs.model.errors import CommandError
from ctxfs.model.toml import parse_toml
from ctxfs.store import rooted_fs

PROGRAM = "run"
_SCHEMA_SECONDS = 20
_MAX_SCHEMA_BYTES = 1_000_000
_MAX_FILES = 1000
_MAX_FOLDER_BYTES = 50_000_000
_SETTLED_NS = 1_000_000_000  # two changes within a tick of the clock leave equal timestamps
_UNAPPROVED_DESCRIPTION = "Not approved yet: what it is for, it is asked when it is"
Approved = Callable[[str], Mapping[str, Any] | None]
_MAX_MANIFEST_BYTES = 256 * 1024


class FolderProvider:
    """The tools of one folder. `approved` returns the approved definition of a tool without a tool.toml."""

    def __init__(self, root: HostPath, approved: Approved, *, builtin: bool = False) -> None:
        self.trusted = builtin
        self._root = root
        self._approved = approved
        self._cached: tuple[object, tuple[Mapping[str, Tool], Mapping[str, str]]] | None = None
        self._digests: dict[str, tuple[object, str]] = {}

    def tools(self) -> tuple[Mapping[str, Tool], Mapping[str, str]]:
        """Return (tools by name, folder → reason why it is no tool); the same objects while nothing changes.

        Tools that come with ctxfs are read once.
        """
        if self.trusted and self._cached is not None:
            return self._cached[1]
        folders = _folders(self._root)
        stamp = tuple((folder, _stamp(folder), self._approved(folder.name)) for folder in folders)
        if self._cached is None or self._cached[0] != stamp:
            tools: dict[str, Tool] = {}
            faults: dict[str, str] = {}
            for folder in folders:
                try:
                    tools[folder.name] = self._read(folder)
                except CommandError as error:
                    faults[folder.name] = error.message
            self._cached = stamp, (tools, faults)
        return self._cached[1]

    def digest(self, tool: Tool) -> str:
        """Return a sha256 over the names, modes and contents of the tool's files.

        Raise OSError, and CommandError if there are too many files, or links.
        """
        folder = HostPath(tool.folder)
        signature = _signature(folder)
        cached = self._digests.get(tool.folder)
        if cached is not None and cached[0] == signature:
            return cached[1]
        digest = digest_of(folder)
        if time.time_ns() - max((row[-1] for row in signature), default=0) > _SETTLED_NS:
            self._digests[tool.folder] = signature, digest
        return digest

    def definition(self, tool: Tool) -> Mapping[str, Any]:
        """Return the current definition: the tool.toml, or the output of `run --schema`. Raise CommandError."""
        folder = HostPath(tool.folder)
        if (folder / MANIFEST).is_file():
            return _manifest(folder)
        return read_definition([str(folder / PROGRAM)], folder.name, folder)

    def _read(self, folder: HostPath) -> Tool:
        name = folder.name
        if not (folder / MANIFEST).is_file():
            return tool_from_definition(name, self._approved(name), [f"./{PROGRAM}"], str(folder))
        return parse_tool(name, str(folder), _manifest(folder), builtin=self.trusted)


def tool_from_definition(name: str, definition: Mapping[str, Any] | None, command: list[str], folder: str) -> Tool:
    """Return a tool by the definition that its program printed for the approval; a placeholder before the approval."""
    if definition is None:
        if not NAME.fullmatch(name):
            raise CommandError(f"tool '{name}': its name needs small letters, digits, '-' and '_'", "rename it")
        return Tool(name, _UNAPPROVED_DESCRIPTION, {"type": "object", "properties": {}}, folder, tuple(command))
    return parse_tool(name, folder, {**definition, "command": command})


def read_definition(command: list[str], name: str, folder: HostPath) -> Mapping[str, Any]:
    """Run a program with `--schema` and return its definition: JSON with the keys of a tool.toml, except `command`.

    `inputSchema` and `outputSchema` are accepted for `input` and `output`. Raise CommandError.
    """
    try:
        text, complaints = _run_for_definition([*command, "--schema"], folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"tool '{name}' does not say what it is: {error}", "run it with --schema") from error
    try:
        output = json.loads(text)
    except ValueError as error:
        why = complaints.decode("utf-8", "replace").strip()[-300:] or str(error)
        raise CommandError(f"tool '{name}' prints no JSON with --schema: {why}", f"or give it a {MANIFEST}") from error
    if not isinstance(output, dict):
        raise CommandError(f"tool '{name}' prints no object with --schema", f"or give it a {MANIFEST}")
    renamed = {"inputSchema": "input", "outputSchema": "output"}
    definition = {
        renamed.get(str(key), str(key)): value for key, value in output.items() if key not in ("name", "command")
    }
    parse_tool(name, str(folder), {**definition, "command": command})
    return definition


def _run_for_definition(command: list[str], folder: HostPath) -> tuple[bytes, bytes]:
    """Return stdout and stderr of a program that is not approved.

    It is sandboxed like a read-only tool where a sandbox works.
    """
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "HOME") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="ctxfs-schema-") as scratch, contextlib.ExitStack() as stack:
        fds = []
        if bwrap := find_bubblewrap():
            environment |= {"HOME": scratch, "TMPDIR": scratch}
            if (seccomp := open_filter()) >= 0:
                stack.callback(os.close, seccomp)
                fds.append(seccomp)
            view = SandboxView(str(folder), os.path.realpath(scratch), seccomp=seccomp)
            command = sandboxed_command(
                bwrap, command, view, Sandbox(), environment, reads_only=True, reaches_out=False
            )
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            limits = f"ulimit -f {_MAX_SCHEMA_BYTES // 512}; ulimit -t {_SCHEMA_SECONDS}; ulimit -c 0"
            subprocess.run(
                ["/bin/sh", "-c", f'{limits}; exec "$@"', "schema", *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=_SCHEMA_SECONDS,
                check=False,
                pass_fds=fds,
            )
            out.seek(0)
            err.seek(0)
            return out.read(_MAX_SCHEMA_BYTES), err.read(_MAX_SCHEMA_BYTES)


def digest_of(folder: HostPath) -> str:
    """Return a sha256 over the names, modes and contents of all files of a folder.

    Raise CommandError if there are too many files, links or special files.
    """
    return copy_folder(folder, None)


def copy_folder(folder: HostPath, target: HostPath | None) -> str:
    """Copy a tool's folder to `target`, if given, and return the digest of the copied bytes.

    Copy and digest come from the same read, so that a concurrent change is in both or in neither. Every file is opened
    once, beneath the folder, and no link is followed. Raise OSError, and CommandError as `digest_of` does.
    """
    total, count, digest = 0, 0, hashlib.sha256()
    for names in _files(folder):
        path = "/".join(names)
        if names[-1] == "":  # a folder: it is created even if it is empty
            if target is not None:
                target.joinpath(*names[:-1]).mkdir(mode=0o755, exist_ok=True)
            continue
        data, mode = _read_content(folder, names, _MAX_FOLDER_BYTES - total)
        total, count = total + len(data), count + 1
        if count > _MAX_FILES or total > _MAX_FOLDER_BYTES:
            raise CommandError(
                f"'{folder}' holds more than {_MAX_FILES} files or {_MAX_FOLDER_BYTES} bytes", "make it smaller"
            )
        digest.update(f"{path}\0{mode:o}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        digest.update(data)
        if target is not None:
            copy = target.joinpath(*names)
            copy.write_bytes(data)
            copy.chmod(0o444 | mode)
    return digest.hexdigest()


def _read_content(folder: HostPath, names: tuple[str, ...], max_bytes: int) -> tuple[bytes, int]:
    """Return (content, execute bits) of a regular file. Raise CommandError for a link or a special file."""
    path = folder.joinpath(*names)
    try:
        with rooted_fs.directory_of(str(folder), names) as (parent, name):
            fd = rooted_fs.open_nofollow(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        why = "is a link: what it leads to could change unseen" if error.errno == errno.ELOOP else "is no regular file"
        raise CommandError(f"'{path}' {why}", "put the file itself there") from error
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise CommandError(f"'{path}' is no regular file", "put the file itself there")
        return file.read(max(max_bytes, 0) + 1), status.st_mode & 0o111


def _signature(folder: HostPath) -> tuple[tuple[str, int, int, int, int, int], ...]:
    """Return the stat fields of all files, which differ after a change of a file, unless it was changed a moment ago.

    Contents are read again only if the signature differs.
    """
    rows: list[tuple[str, int, int, int, int, int]] = []
    for names in _files(folder):
        file = folder.joinpath(*names)
        status = file.lstat()
        rows.append((str(file), status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        if len(rows) > _MAX_FILES:
            break
    return tuple(rows)


def _stamp(folder: HostPath) -> tuple[int, ...]:
    """Return the stat fields of the tool.toml, which differ after a change of it."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _files(folder: HostPath) -> Iterator[tuple[str, ...]]:
    """Yield the names from `folder` down to each file, link or special file.

    A folder comes before its entries, as names that end with an empty one.
    """
    for directory, folders, names in os.walk(folder):
        folders.sort()
        start = HostPath(directory).relative_to(folder).parts
        yield (*start, "")
        links = [name for name in folders if (HostPath(directory) / name).is_symlink()]
        for name in sorted([*names, *links]):
            yield (*start, name)


def _folders(root: HostPath) -> list[HostPath]:
    try:
        names = sorted(os.listdir(root))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [root / name for name in names if _is_tool(root / name)]


def _is_tool(folder: HostPath) -> bool:
    with contextlib.suppress(OSError):
        return (folder / MANIFEST).is_file() or ((folder / PROGRAM).is_file() and os.access(folder / PROGRAM, os.X_OK))
    return False


def _manifest(folder: HostPath) -> Mapping[str, Any]:
    try:
        return parse_toml(rooted_fs.read_file(str(folder), (MANIFEST,), _MAX_MANIFEST_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CommandError(f"tool '{folder.name}': {error}", f"mend its {MANIFEST}") from error
