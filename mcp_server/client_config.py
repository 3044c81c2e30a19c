"""Configuration files of MCP clients: the entry of this server, its location, and its installation and removal.

The locations and forms are those of the clients' documentation, on Linux and macOS.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

from ctxfs.mcp_server.config_text import (
    ConfigTextError,
    Form,
    find_table,
    put_entry,
    read_document,
    remove_entry,
    show_entry,
)
from ctxfs.model.errors import CommandError
from ctxfs.store.foreign_settings import ForeignSettings, read_settings, replace_settings
from ctxfs.store.user_folders import home_folder

_BACKUP_SUFFIX = ".before-ctxfs"
_IS_MAC = sys.platform == "darwin"
_GOOSE_SECONDS = 300
EntryForm = Callable[[str, str, list[str]], dict[str, Any]]


def _plain_entry(name: str, program: str, arguments: list[str]) -> dict[str, Any]:
    del name
    return {"command": program, "args": arguments}


def _typed_entry(name: str, program: str, arguments: list[str]) -> dict[str, Any]:
    return {"type": "stdio", **_plain_entry(name, program, arguments)}


def _opencode_entry(name: str, program: str, arguments: list[str]) -> dict[str, Any]:
    del name
    return {"type": "local", "command": [program, *arguments]}


def _goose_entry(name: str, program: str, arguments: list[str]) -> dict[str, Any]:
    texts = {"type": "stdio", "name": name, "description": "The tree of ctxfs", "cmd": program}
    return {"enabled": True, **texts, "args": arguments, "timeout": _GOOSE_SECONDS}


@dataclass(frozen=True, slots=True)
class Client:
    """An MCP client and its configuration files.

    `project` files are relative to a project folder; without them the client has only those of the user. `user` files
    begin with `~/`, `config:` (the folder for settings of the platform), `xdg:` ($XDG_CONFIG_HOME or ~/.config) or `$`
    and the name of a variable. `table` is the key of the table with the servers. A client with `nested` has had another
    table, `nested` in `table`, since a later version.
    """

    name: str
    project: tuple[str, ...]
    user: tuple[str, ...]
    table: str
    form: Form = "json"
    entry: EntryForm = _plain_entry
    nested: str = ""

    def files(self, folder: HostPath | None) -> list[HostPath]:
        """Return the files that the client may read, of a project folder or of the user (None), the usual one first."""
        if folder is not None and self.project:
            return [folder / name for name in self.project]
        return [file for name in self.user if (file := _user_file(name)) is not None]

    def file(self, folder: HostPath | None) -> HostPath:
        """Return the first file that exists, else the usual one."""
        files = self.files(folder)
        return next((file for file in files if file.exists()), files[0])

    def table_of(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the path of the table with the servers in a document."""
        entries = document.get(self.table)
        nested = entries.get(self.nested) if self.nested and isinstance(entries, dict) else None
        is_table = isinstance(nested, dict) and all(isinstance(value, dict) for value in nested.values())
        return (self.table, self.nested) if is_table else (self.table,)


def _user_file(name: str) -> HostPath | None:
    """Return a file of the user; None for a variable that is not set."""
    if name.startswith("$"):
        return HostPath(value) if (value := os.environ.get(name[1:])) else None
    if name.startswith("~/"):
        return HostPath(home_folder()) / name[2:]
    kind, _, rest = name.partition(":")
    if kind == "config" and _IS_MAC:
        return HostPath(home_folder()) / "Library" / "Application Support" / rest
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    is_usable = configured.startswith("/") and not (kind == "xdg" and _IS_MAC)
    return (HostPath(configured) if is_usable else HostPath(home_folder()) / ".config") / rest


_CLINE = "globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"
CLIENTS = {
    client.name: client
    for client in (
        Client("claude-code", (".mcp.json",), ("~/.claude.json",), "mcpServers", entry=_typed_entry),
        Client("claude-desktop", (), ("config:Claude/claude_desktop_config.json",), "mcpServers"),
        Client("cursor", (".cursor/mcp.json",), ("~/.cursor/mcp.json",), "mcpServers"),
        Client("vscode", (".vscode/mcp.json",), ("config:Code/User/mcp.json",), "servers", "jsonc", _typed_entry),
        Client("codex", (".codex/config.toml",), ("~/.codex/config.toml",), "mcp_servers", "toml"),
        Client("gemini", (".gemini/settings.json",), ("~/.gemini/settings.json",), "mcpServers", "jsonc"),
        Client("windsurf", (), ("~/.codeium/windsurf/mcp_config.json",), "mcpServers"),
        Client("zed", (".zed/settings.json",), ("xdg:zed/settings.json",), "context_servers", "jsonc"),
        Client(
            "cline",
            (),
            (
                "$CLINE_MCP_SETTINGS_PATH",
                "~/.cline/data/settings/cline_mcp_settings.json",
                f"config:Code/User/{_CLINE}",
            ),
            "mcpServers",
        ),
        Client(
            "opencode",
            ("opencode.json", "opencode.jsonc", ".opencode/opencode.json", ".opencode/opencode.jsonc"),
            ("xdg:opencode/opencode.json", "xdg:opencode/opencode.jsonc"),
            "mcp",
            "jsonc",
            _opencode_entry,
            nested="servers",
        ),
        Client("goose", (), ("xdg:goose/config.yaml",), "extensions", "yaml", _goose_entry),
    )
}


def entry_of(client: Client, store: HostPath, principal: str, name: str = "ctxfs") -> dict[str, Any]:
    """Return the server entry: program and arguments, with absolute paths, because a client starts it in any folder."""
    program = shutil.which("ctxfs") or ""
    command = [program] if program else [sys.executable, "-m", "ctxfs"]
    arguments = [*command[1:], "--store", str(store), "mcp", *(("--as", principal) if principal else ())]
    return client.entry(name, command[0], arguments)


def shown(client: Client, name: str, entry: Mapping[str, Any]) -> str:
    """Return the entry as text in the format of the client's file."""
    return show_entry(client.form, (client.table,), name, entry)


def find_file(client: Client, folder: HostPath | None, name: str) -> HostPath:
    """Return the file of a client that has the entry, else the one that a new entry belongs in."""
    for file in client.files(folder):
        try:
            document = read_document(client.form, read_settings(file).text or "")
            if name in (find_table(document, client.table_of(document)) or {}):
                return file
        except (CommandError, ConfigTextError):
            continue
    return client.file(folder)


def install(client: Client, file: HostPath, name: str, entry: Mapping[str, Any]) -> bool:
    """Add the entry to the client's file and preserve the rest of it; return False if it is already present.

    Raises CommandError if the file cannot be read, parsed or written.
    """
    try:
        settings = read_settings(file)
        text = settings.text or ""
        document = read_document(client.form, text)
        table = client.table_of(document)
        former = (find_table(document, table) or {}).get(name)
        if isinstance(former, dict) and {**former, **entry} == former:
            return False
        after = put_entry(client.form, text, table, name, entry)
    except (ConfigTextError, CommandError) as error:
        raise _parse_error(client, file, error, f"add this to it yourself:\n{shown(client, name, entry)}") from error
    _replace(file, settings, after)
    return True


def uninstall(client: Client, file: HostPath, name: str) -> bool:
    """Remove the entry; return False if it is absent. An emptied file stays.

    A file that has not changed since the installation is as it was before it. Otherwise a table that the installation
    added goes with its last entry.
    """
    if not file.exists():
        return False
    try:
        settings = read_settings(file)
        text = settings.text or ""
        document = read_document(client.form, text)
        table = client.table_of(document)
        entry = (find_table(document, table) or {}).get(name)
        if not isinstance(entry, dict):
            return False
        after = _without_entry(client, settings, table, name, entry)
    except (ConfigTextError, CommandError) as error:
        raise _parse_error(client, file, error, f"take '{name}' out of it yourself") from error
    _replace(file, settings, after)
    return True


def _without_entry(
    client: Client, settings: ForeignSettings, table: tuple[str, ...], name: str, entry: Mapping[str, Any]
) -> str:
    text = settings.text or ""
    before = _read_backup(settings)
    try:
        document = read_document(client.form, before)
        has_table = find_table(document, table) is not None
        if put_entry(client.form, before, table, name, entry) == text and before:
            return before
    except ConfigTextError:  # the copy was edited
        has_table = True
    return remove_entry(client.form, text, table, name, has_table=has_table)


def _read_backup(settings: ForeignSettings) -> str:
    """Return the text of the copy from before the first installation; empty if there was no file."""
    try:
        return read_settings(_backup_of(settings)).text or ""
    except CommandError:
        return ""


def _backup_of(settings: ForeignSettings) -> HostPath:
    return settings.path.with_name(settings.path.name + _BACKUP_SUFFIX)


def _parse_error(client: Client, file: HostPath, error: Exception, remedy: str) -> CommandError:
    """Return an error that leaves the file alone."""
    reason = f"{error.message} → {error.remedy}" if isinstance(error, CommandError) else str(error)
    return CommandError(f"'{file}' cannot be read as {client.form.upper()} ({reason}); nothing was changed", remedy)


def _replace(file: HostPath, settings: ForeignSettings, text: str) -> None:
    """Replace the file atomically; before the first change, copy it to a backup beside it."""
    backup = _backup_of(settings)
    try:
        if settings.exists and not backup.exists():
            shutil.copy2(settings.path, backup)
    except OSError as error:
        raise CommandError(f"'{file}' cannot be written: {error.strerror}", "check its permissions") from error
    replace_settings(file, settings, text)
