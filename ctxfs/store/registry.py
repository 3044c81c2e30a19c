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
from ctxfs.store.location import CONFIG_NAME
from ctxfs.store.user_folders import state_home

APPROVALS_NAME = "tools.json"
_ID_NAME = "id"
_PROGRAM_SECTIONS = ("context", "endpoint", "index", "mount", "shared", "tools")
_PROGRAM_SETTINGS = ("summariser", "judge", "url", "model", "allow_other", "allow_users", "walls", "fetch_hosts")
MAX_RECORD_BYTES = 65_536
MAX_SMALL_BYTES = 10_000_000
MAX_RECORDS_KEPT = 1000


def confirm_store(root: HostPath) -> None:
    """Record that the calling person confirms the store in its present state; no effect if state cannot be written."""
    with contextlib.suppress(OSError, CommandError):  # also without a home folder
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
    return HostPath(state_home()) / "ctxfs" / "stores"


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
    with contextlib.suppress(OSError, CommandError):
        yield from sorted(state_folder().glob("*.json"))


def _remove_stale_records(folder: HostPath) -> None:
    """Remove the records of deleted stores, once there are many records."""
    files = list(_record_files())
    for file in files if len(files) > MAX_RECORDS_KEPT else ():
        path = str((_parse_record(file) or {}).get("path", ""))
        if not os.path.exists(os.path.join(path, CONFIG_NAME)):
            (folder / file.name).unlink(missing_ok=True)
