"""The registry of confirmed stores: `$XDG_STATE_HOME/ctxfs/stores/<digest of the path>.json`, a record a store.

A record is {path, id, programs}: the store's real path, the random text in its file `id`, and a digest over the
programs that its settings and approvals can start. A store that was copied, moved or replaced, or whose programs
changed, differs from its record.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.errors import CommandError
from ctxfs.model.toml import parse_toml
from ctxfs.store.durable_file import replace_file

CONFIG_NAME = "ctxfs.toml"
APPROVALS_NAME = "tools.json"
_ID_NAME = "id"
_PROGRAM_SECTIONS = ("context", "endpoint", "index", "mount", "tools")
_PROGRAM_SETTINGS = ("summariser", "judge", "url", "model", "allow_other", "allow_users", "walls", "fetch_hosts")
_FOREIGN_WRITE = stat.S_IWGRP | stat.S_IWOTH
MAX_RECORD_BYTES = 65_536
MAX_SMALL_BYTES = 10_000_000
MAX_RECORDS_KEPT = 1000


def check_location(root: HostPath) -> None:
    """Raise CommandError for a store that another user may have created or changed, or in a tree that agents write."""
    try:
        folder, config = os.stat(root), os.lstat(root / CONFIG_NAME)
    except OSError as error:
        raise CommandError(f"cannot read the store '{root}': {error.strerror}", "check its permissions") from error
    if not stat.S_ISREG(config.st_mode):
        raise CommandError(f"'{root / CONFIG_NAME}' is no regular file", "put the settings themselves there")
    for path, file_stat in ((root, folder), (root / CONFIG_NAME, config)):
        if file_stat.st_uid != os.geteuid():
            remedy = f"run ctxfs as its owner: sudo -u '#{file_stat.st_uid}' ctxfs …"
            raise CommandError(f"'{path}' belongs to user {file_stat.st_uid}, and its settings start programs", remedy)
    is_private = not folder.st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    for path, file_stat in ((root, folder), (root / CONFIG_NAME, config)):
        if file_stat.st_mode & _FOREIGN_WRITE and not (is_private and path != root):
            raise CommandError(f"'{path}' can be written by other users", f"look at it, then: chmod go-w '{path}'")
    if is_inside_tree(root):
        raise CommandError(f"the store '{root}' lies in a tree that agents write", "move it out, or use another one")


def is_inside_tree(root: HostPath) -> bool:
    """Return True for a folder in a mounted tree, or below the folder of another store."""
    real = HostPath(os.path.realpath(root))
    if any((parent / CONFIG_NAME).is_file() and (parent / "tree").is_dir() for parent in real.parents):
        return True
    try:
        device = os.stat(real).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            mounts = [line.partition(" - ") for line in table]
    except OSError:
        return False
    device_number = f"{os.major(device)}:{os.minor(device)}"
    return any(
        left.split(" ", 3)[2] == device_number and right.split(" ", 1)[0].startswith("fuse.ctxfs")
        for left, _, right in mounts
    )


def confirm_store(root: HostPath) -> None:
    """Record that the calling person confirms the store in its present state; no effect if state cannot be written."""
    with contextlib.suppress(OSError):
        real = os.path.realpath(root)
        if _read_record(real) == (record := _describe_store(real, make_id=True)):
            return
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_stale_records(folder)
        replace_file(_record_file(real), json.dumps(record).encode(), 0o600)


def check_confirmed(root: HostPath) -> None:
    """Raise CommandError, with the remedy, for a store that is not confirmed in its present state."""
    real = os.path.realpath(root)
    record, current = _read_record(real), _describe_store(real)
    if record is None or not current["id"] or record.get("id") != current["id"]:
        raise CommandError(
            f"found a store at '{root}' that you have not used here before",
            f"if it is yours: ctxfs trust '{root}' (or name it once: ctxfs --store '{root}' …)",
        )
    if record.get("programs") != current["programs"]:
        raise CommandError(
            f"what the store '{root}' starts has changed since you confirmed it",
            f"look at its settings, then: ctxfs trust '{root}'",
        )


def confirmed_roots() -> list[str]:
    """Return the real paths of the confirmed stores that still exist."""
    roots = []
    for file in _record_files():
        path = (_parse_record(file) or {}).get("path")
        if isinstance(path, str) and os.path.isfile(os.path.join(path, CONFIG_NAME)):
            roots.append(path)
    return roots


def programs_of(root: HostPath) -> list[str]:
    """Return the programs that the settings and approvals of a store start, a line each, for a person to review."""
    settings = _read_settings(str(root))
    lines = [f"{name} = {value!r}" for name, value in _program_settings(settings)]
    for server in settings.get("server", ()):
        if isinstance(server, dict):
            lines.append(f"MCP server {server.get('name')!r}: {server.get('command') or server.get('url')!r}")
    for provider in settings.get("provider", ()):
        if isinstance(provider, dict):
            lines.append(
                f"mount provider {provider.get('name')!r}: {provider.get('kind')!r} {provider.get('options')!r}"
            )
    with contextlib.suppress(ValueError, AttributeError):
        lines += [f"approved tool {name!r}" for name in json.loads(_read_small_file(root / APPROVALS_NAME) or b"{}")]
    return lines


def state_folder() -> HostPath:
    """Return the folder of the records, which belongs to the user and to no store."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return HostPath(state) / "ctxfs" / "stores"


def _describe_store(real: str, *, make_id: bool = False) -> dict[str, str]:
    file = HostPath(real) / _ID_NAME
    identity = _read_small_file(file)[:200].decode("ascii", "replace").strip()
    if not identity and make_id:
        identity = os.urandom(16).hex()
        replace_file(file, f"{identity}\n".encode(), 0o600)
    settings = _read_settings(real)
    programs = [_program_settings(settings), settings.get("server", []), settings.get("provider", [])]
    digest = hashlib.sha256(json.dumps(programs, sort_keys=True, default=str).encode())
    digest.update(_read_small_file(HostPath(real) / APPROVALS_NAME))
    return {"path": real, "id": identity, "programs": digest.hexdigest()}


def _program_settings(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the explicit settings that start a program, send texts to a server or admit other users."""
    sections = [(name, settings.get(name)) for name in _PROGRAM_SECTIONS]
    return [
        (f"{name}.{key}", section[key])
        for name, section in sections
        if isinstance(section, dict)
        for key in sorted(section)
        if key in _PROGRAM_SETTINGS
    ]


def _read_settings(real: str) -> Mapping[str, Any]:
    try:
        return parse_toml(_read_small_file(HostPath(real) / CONFIG_NAME).decode())
    except ValueError:  # the parser of the settings reports the error
        return {}


def _read_small_file(file: HostPath) -> bytes:
    """Return the content of a small regular file of the store; empty if it is absent. Links are not followed."""
    with contextlib.suppress(OSError):
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as stream:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return stream.read(MAX_SMALL_BYTES)
    return b""


def _record_file(real: str) -> HostPath:
    return state_folder() / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:40]}.json"


def _read_record(real: str) -> dict[str, Any] | None:
    return _parse_record(_record_file(real))


def _parse_record(file: HostPath) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        with open(file, "rb") as stream:
            record = json.loads(stream.read(MAX_RECORD_BYTES))
        return record if isinstance(record, dict) else None
    return None


def _record_files() -> Iterator[HostPath]:
    with contextlib.suppress(OSError):
        yield from sorted(state_folder().glob("*.json"))


def _remove_stale_records(folder: HostPath) -> None:
    """Remove the records of deleted stores, once there are many records."""
    files = list(_record_files())
    for file in files if len(files) > MAX_RECORDS_KEPT else ():
        path = str((_parse_record(file) or {}).get("path", ""))
        if not os.path.exists(os.path.join(path, CONFIG_NAME)):
            (folder / file.name).unlink(missing_ok=True)
