"""Configuration files of MCP clients: the entry of this server, its location, and its installation and removal."""

import copy
import json
import shutil
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any, Literal

import tomlkit
import tomlkit.exceptions

from ctxfs.model.errors import CommandError
from ctxfs.model.line_ends import convert_line_ends, line_end_of
from ctxfs.store.foreign_settings import ForeignSettings, read_settings, replace_settings

Form = Literal["json", "toml"]
_BACKUP_SUFFIX = ".before-ctxfs"
_MARK = "\ufeff"  # of bytes in UTF-8


@dataclass(frozen=True, slots=True)
class Client:
    """An MCP client and its configuration file.

    `project` is relative to a project folder, `user` to the home folder. `table` is the key that contains the servers.
    `typed` entries carry their transport as `type`.
    """

    name: str
    project: str
    user: str
    table: str
    form: Form = "json"
    typed: bool = False

    def file(self, folder: HostPath | None) -> HostPath:
        """Return the configuration file of a project folder, or of the user (None)."""
        return folder / self.project if folder is not None else HostPath.home() / self.user


_VSCODE = "Library/Application Support/Code/User" if sys.platform == "darwin" else ".config/Code/User"
CLIENTS = {
    client.name: client
    for client in (
        Client("claude-code", ".mcp.json", ".claude.json", "mcpServers", typed=True),
        Client("cursor", ".cursor/mcp.json", ".cursor/mcp.json", "mcpServers"),
        Client("vscode", ".vscode/mcp.json", f"{_VSCODE}/mcp.json", "servers", typed=True),
        Client("codex", ".codex/config.toml", ".codex/config.toml", "mcp_servers", form="toml"),
        Client("gemini", ".gemini/settings.json", ".gemini/settings.json", "mcpServers"),
    )
}


def entry_of(client: Client, store: HostPath, principal: str) -> dict[str, Any]:
    """Return the server entry: program and arguments, with absolute paths, because a client starts it in any folder."""
    program = shutil.which("ctxfs") or ""
    command = [program] if program else [sys.executable, "-m", "ctxfs"]
    arguments = [*command[1:], "--store", str(store), "mcp", *(("--as", principal) if principal else ())]
    return {**({"type": "stdio"} if client.typed else {}), "command": command[0], "args": arguments}


def shown(client: Client, name: str, entry: Mapping[str, Any]) -> str:
    """Return the entry as text in the format of the client's file."""
    if client.form == "toml":
        return tomlkit.dumps({client.table: {name: dict(entry)}})
    return json.dumps({client.table: {name: entry}}, indent=2, ensure_ascii=False) + "\n"


def install(client: Client, file: HostPath, name: str, entry: Mapping[str, Any]) -> bool:
    """Add the entry to the client's file and preserve the rest of it; return False if it is already present.

    Raises CommandError if the file cannot be read, parsed or written.
    """
    settings = _read_settings(client, file, name, entry)
    document = _parse_document(client, file, name, entry, settings.text or "")
    table = document.setdefault(client.table, {} if client.form == "json" else tomlkit.table())
    if not isinstance(table, MutableMapping):
        raise _parse_error(client, file, name, entry, f"'{client.table}' is not a table")
    if _unwrap_toml(table.get(name)) == dict(entry):
        return False
    table[name] = dict(entry)
    _write_document(client, file, settings, document)
    return True


def uninstall(client: Client, file: HostPath, name: str) -> bool:
    """Remove the entry; return False if it is absent. An emptied file stays."""
    if not file.exists():
        return False
    settings = _read_settings(client, file, name, {})
    document = _parse_document(client, file, name, {}, settings.text or "")
    table = document.get(client.table)
    if not isinstance(table, MutableMapping) or name not in table:
        return False
    del table[name]
    if not table:
        del document[client.table]
    _write_document(client, file, settings, document)
    return True


def _read_settings(client: Client, file: HostPath, name: str, entry: Mapping[str, Any]) -> ForeignSettings:
    try:
        return read_settings(file)
    except CommandError as error:
        raise _parse_error(client, file, name, entry, f"{error.message} → {error.remedy}") from error


def _parse_document(
    client: Client, file: HostPath, name: str, entry: Mapping[str, Any], text: str
) -> MutableMapping[str, Any]:
    text = text.removeprefix(_MARK)
    try:
        document = tomlkit.parse(text) if client.form == "toml" else json.loads(text or "{}")
    except (ValueError, tomlkit.exceptions.TOMLKitError) as error:
        raise _parse_error(client, file, name, entry, str(error)) from error
    if not isinstance(document, MutableMapping):
        raise _parse_error(client, file, name, entry, "it is not a table")
    return document


def _parse_error(client: Client, file: HostPath, name: str, entry: Mapping[str, Any], reason: str) -> CommandError:
    """Return an error that leaves the file alone: some clients allow comments, which a parsed rewrite would lose."""
    return CommandError(
        f"'{file}' cannot be read as {client.form.upper()} ({reason}); nothing was changed",
        f"add this to it yourself:\n{shown(client, name, entry)}" if entry else f"take '{name}' out of it yourself",
    )


def _unwrap_toml(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else copy.copy(value)


def _write_document(
    client: Client, file: HostPath, settings: ForeignSettings, document: MutableMapping[str, Any]
) -> None:
    """Replace the file atomically; before the first change, copy it to a backup beside it."""
    text = (
        tomlkit.dumps(document) if client.form == "toml" else json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    )
    before = settings.text or ""
    mark = _MARK if before.startswith(_MARK) else ""
    text = mark + convert_line_ends(text, line_end_of(before))
    backup = settings.path.with_name(settings.path.name + _BACKUP_SUFFIX)
    try:
        if settings.exists and not backup.exists():
            shutil.copy2(settings.path, backup)
    except OSError as error:
        raise CommandError(f"'{file}' cannot be written: {error.strerror}", "check its permissions") from error
    replace_settings(file, settings, text)
