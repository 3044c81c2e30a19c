"""ctxfs.toml: settings with every default shown as a comment; read with tomllib, edited with tomlkit."""

import dataclasses
import json
import logging
import os
import re
import tomllib
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.errors import EXIT_USAGE, CommandError
from ctxfs.model.toml import parse_toml
from ctxfs.store.durable_file import replace_text
from ctxfs.store.settings import (
    ContextSettings,
    EndpointSettings,
    HistorySettings,
    IndexSettings,
    MemorySettings,
    MountProvider,
    MountSettings,
    RemoteSettings,
    SearchSettings,
    ServerSource,
    Settings,
    SharedSettings,
    Source,
    ToolSettings,
    VersionSettings,
)

log = logging.getLogger(__name__)

MIN_LARGE_BYTES = 65_536
MIN_GRACE_SECONDS = 5  # a waiting node reads from the engine every second, and within four during an exchange
_SERVER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


_SECTIONS: dict[str, type[Any]] = {
    "search": SearchSettings,
    "context": ContextSettings,
    "index": IndexSettings,
    "endpoint": EndpointSettings,
    "mount": MountSettings,
    "versions": VersionSettings,
    "history": HistorySettings,
    "memory": MemorySettings,
    "tools": ToolSettings,
    "shared": SharedSettings,
}


def default_text() -> str:
    """Return the text of a new ctxfs.toml: each setting commented out with its default and meaning."""
    lines = ["# Settings of this ctxfs store. Every default is shown; take the '#' away to change one.", ""]
    for section, settings in _SECTIONS.items():
        lines.append(f"[{section}]")
        for item in dataclasses.fields(settings):
            value = json.dumps(item.default)  # equal to TOML for numbers, plain texts and booleans
            lines.append(f"# {item.name} = {value}".ljust(36) + f"# {item.metadata['doc']}")
        lines.append("")
    lines += [
        "# Folders shown under knowledge/. `ctxfs add DIR` and `ctxfs remove NAME` keep this list.",
        "# [[source]]",
        '# name = "handbook"',
        '# path = "/home/me/handbook"',
        "# writable = false",
        '# exclude = ["*.csv"]               # .gitignore patterns: shown, not indexed',
        '# include = ["vendor/"]             # .gitignore patterns: no noise, so that they are embedded',
        "# tools = false                     # offer what is in its folder tools/, once it is approved",
        "",
        "# MCP servers, mounted as tools/<name>/ and knowledge/<name>/. `ctxfs tools add` and `ctxfs tools remove` keep this list.",
        "# [[server]]",
        '# name = "github"',
        '# command = ["npx", "-y", "some-server"]   # or url = "https://host/mcp"',
        '# env = ["GITHUB_TOKEN"]             # names of variables that it is given, never values',
        '# token_env = "TOKEN"                # for a url: the variable that holds the token',
        "# searchable = false                 # index its documents",
        "",
        "# Mounts of installed packages (entry point group ctxfs.mounts), at knowledge/<name>/.",
        "# [[provider]]",
        '# name = "orders"',
        '# kind = "sqlite"',
        '# options = { file = "/home/me/orders.db" }',
        "",
        "# Remotes that the daemon keeps up (`ctxfs remote add` adds them): it pushes new versions, and pulls now and then.",
        "# [remote.hub]",
        "# auto = true",
        "# seconds = 60                      # between pulls",
        "",
        "# Who may do what where, beside the defaults (docs/policy.md). A denial wins, then the most specific.",
        "# [groups]",
        '# writers = ["agent:alice", "agent:bob"]',
        "# [[rule]]",
        '# principal = "group:writers"',
        '# path = "memory/shared/**"',
        '# verbs = "rw"                       # or ["list", "read", "write", "create", "delete", "exec", "meta", "admin"]',
        '# effect = "allow"',
        "# expires = 2026-12-31T00:00:00Z",
        "",
    ]
    return "\n".join(lines)


def read_settings(config: HostPath) -> Settings:
    """Parse and check ctxfs.toml; CommandError names the file and the fault."""
    try:
        data = parse_toml(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"cannot read '{config}': {error.strerror}", "check its permissions") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"'{config}' is not valid TOML: {error}", "mend that line") from error
    unknown = (
        set(data) - set(_SECTIONS) - {"source", "server", "provider", "remote", "rule", "groups"}
    )  # `ctxfs.policy` reads the last two
    if unknown:
        raise CommandError(f"'{config}' has an unknown section '{min(unknown)}'", f"known: {', '.join(_SECTIONS)}")
    sections = {name: _read_section(config, name, kind, data.get(name, {})) for name, kind in _SECTIONS.items()}
    entries = data.get("source", [])
    if not isinstance(entries, list):
        raise CommandError(f"'{config}': write [[source]] with two brackets", "")
    sources = tuple(_read_source(config, entry) for entry in entries)
    names = [source.name for source in sources]
    if len(names) != len(set(names)):
        raise CommandError(f"'{config}' names a source twice", "give each [[source]] a name of its own")
    servers = tuple(_read_server(config, entry) for entry in data.get("server", []))
    if len({server.name for server in servers} | set(names)) != len(servers) + len(names):
        raise CommandError(f"'{config}' names a server like another, or like a source", "give it a name of its own")
    providers = tuple(_read_provider(config, entry) for entry in data.get("provider", []))
    names = [*names, *(server.name for server in servers), *(provider.name for provider in providers)]
    if len(names) != len(set(names)):
        raise CommandError(f"'{config}' names a provider like another, or like a source or server", "rename it")
    remotes = _read_remotes(config, data.get("remote", {}))
    return Settings(**sections, sources=sources, servers=servers, providers=providers, remotes=remotes)


def _read_section(config: HostPath, section: str, kind: type[Any], values: object) -> Any:
    if not isinstance(values, dict):
        raise CommandError(f"'{config}': [{section}] is not a table", "")
    fields = {item.name: item for item in dataclasses.fields(kind)}
    if section == "mount" and values.get("loop") == "plain":  # a loop of earlier versions
        log.warning('\'%s\': mount.loop = "plain" was removed; "direct" is used → delete the line', config)
        values = {**values, "loop": "direct"}
    if section == "shared" and "areas" in values:
        raise CommandError(
            f"'{config}': shared.areas is not supported: a node shares all areas that have versions",
            "delete the line; to keep files to one machine, use a source: ctxfs add FOLDER --writable",
        )
    for name, value in values.items():
        if name not in fields:
            raise CommandError(
                f"'{config}': [{section}] has no setting '{name}'", f"known: {', '.join(sorted(fields))}"
            )
        _check_value(config, f"{section}.{name}", fields[name].default, value)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _check_value(config: HostPath, name: str, default: object, value: object) -> None:
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str | int) and item != "" for item in value):
            raise CommandError(f"'{config}': {name} = {value!r} should be a list of names and numbers", "")
        return
    expected: type | tuple[type, ...] = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, expected) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise CommandError(f"'{config}': {name} = {value!r} should look like {default!r}", "")
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value < (0 if default == 0 or isinstance(default, float) or name.endswith(("_days", "_hours")) else 1)
    ):
        raise CommandError(f"'{config}': {name} = {value} is too small", "")
    if name == "context.max_share_per_origin" and isinstance(value, int | float) and value > 1:
        raise CommandError(f"'{config}': {name} is a share from 0 to 1, not {value}", "")
    if name == "versions.large_bytes" and isinstance(value, int) and value < MIN_LARGE_BYTES:
        raise CommandError(f"'{config}': versions.large_bytes = {value} is below {MIN_LARGE_BYTES}", "")
    if name == "index.device" and value not in ("auto", "cpu", "cuda"):
        raise CommandError(f"'{config}': index.device is 'auto', 'cpu' or 'cuda', not {value!r}", "")
    if name == "shared.index" and value not in ("fetch", "build"):
        raise CommandError(f"'{config}': shared.index is 'fetch' or 'build', not {value!r}", "")
    if name == "shared.grace_seconds" and value and isinstance(value, int) and value < MIN_GRACE_SECONDS:
        raise CommandError(
            f"'{config}': shared.grace_seconds = {value} is too small", f"0, or at least {MIN_GRACE_SECONDS}"
        )
    if name == "shared.durable" and value not in ("local", "engine"):
        raise CommandError(f"'{config}': shared.durable is 'local' or 'engine', not {value!r}", "")
    if name == "mount.loop" and value not in ("direct", "trio"):
        raise CommandError(f"'{config}': mount.loop is 'direct' or 'trio', not {value!r}", "")


def _read_source(config: HostPath, entry: dict[str, Any]) -> Source:
    try:
        exclude = entry.get("exclude", [])
        source = Source(
            check_source_name(entry["name"]),
            entry["path"],
            entry.get("writable", False),
            tuple(map(str, exclude)),
            entry.get("tools", False),
            tuple(map(str, entry.get("include", []))),
        )
    except (KeyError, TypeError) as error:
        raise CommandError(f"'{config}': a [[source]] needs a name and a path ({error})", "") from error
    if not isinstance(source.path, str) or not os.path.isabs(source.path):
        raise CommandError(f"'{config}': the path of source '{source.name}' is not absolute", "")
    return source


def _read_server(config: HostPath, entry: dict[str, Any]) -> ServerSource:
    def fault(text: str) -> CommandError:
        return CommandError(f"'{config}': server '{entry.get('name', '')}': {text}", "see: ctxfs tools add --help")

    if unknown := set(entry) - {item.name for item in dataclasses.fields(ServerSource)}:
        raise fault(f"there is no setting '{min(unknown)}'")
    texts = [entry.get(name, []) for name in ("command", "env")]
    if not all(
        isinstance(values, list) and all(isinstance(value, str) and value for value in values) for values in texts
    ):
        raise fault("command and env are lists of texts")
    command, env = map(tuple, texts)
    url, token_env = str(entry.get("url", "")), str(entry.get("token_env", ""))
    if bool(command) == bool(url):
        raise fault("it has a command or a url")
    if url and not url.startswith(("http://", "https://")):
        raise fault("its url begins with http:// or https://")
    searchable = entry.get("searchable", False)
    if not isinstance(searchable, bool):
        raise fault("searchable is true or false")
    return ServerSource(check_server_name(str(entry.get("name", ""))), command, url, env, token_env, searchable)


def _read_provider(config: HostPath, entry: dict[str, Any]) -> MountProvider:
    def fault(text: str) -> CommandError:
        return CommandError(f"'{config}': provider '{entry.get('name', '')}': {text}", "see: docs/extending/mount.md")

    if unknown := set(entry) - {item.name for item in dataclasses.fields(MountProvider)}:
        raise fault(f"there is no setting '{min(unknown)}'")
    kind, options = entry.get("kind"), entry.get("options", {})
    if not isinstance(kind, str) or not kind:
        raise fault("kind is the name of an entry point of ctxfs.mounts")
    if not isinstance(options, dict) or not all(isinstance(value, str | int | float) for value in options.values()):
        raise fault("options is a table of texts, numbers and truth values")
    return MountProvider(check_source_name(entry.get("name", "")), kind, tuple(sorted(options.items())))


def _read_remotes(config: HostPath, tables: object) -> tuple[RemoteSettings, ...]:
    if not isinstance(tables, dict) or not all(isinstance(values, dict) for values in tables.values()):
        raise CommandError(f"'{config}': write [remote.NAME], with the name of a remote", "see: ctxfs remote")
    defaults = {item.name: item.default for item in dataclasses.fields(RemoteSettings) if item.name != "name"}
    remotes = []
    for name, values in tables.items():
        if unknown := set(values) - set(defaults):
            known = ", ".join(defaults)
            raise CommandError(f"'{config}': [remote.{name}] has no setting '{min(unknown)}'", f"known: {known}")
        for key, value in values.items():
            _check_value(config, f"remote.{name}.{key}", defaults[key], value)
        remotes.append(RemoteSettings(name, **values))
    return tuple(remotes)


def check_server_name(name: str) -> str:
    """Return a valid server name, which follows the rules of tool names; raise CommandError."""
    if not _SERVER_NAME.fullmatch(name):
        raise CommandError(
            f"'{name}' cannot name a server", "use small letters, digits, '-' and '_', 64 at most", EXIT_USAGE
        )
    return name


def check_source_name(name: str) -> str:
    """Return a valid source name, one plain path component; raise CommandError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise CommandError(
            f"'{name}' cannot name a source", "use letters, digits, '.', '_', '+' and '-': --name NAME", EXIT_USAGE
        )
    return name


def add_source(config: HostPath, source: Source | ServerSource) -> None:
    """Append a source or a server to ctxfs.toml; the other text is preserved."""
    import tomlkit

    document = tomlkit.parse(config.read_text(encoding="utf-8"))
    table = tomlkit.table()
    for item in dataclasses.fields(source):
        value = getattr(source, item.name)
        if value != item.default:
            table[item.name] = list(value) if isinstance(value, tuple) else value
    kind = _section_of(type(source))
    existing = document.get(kind)
    if existing is None:
        existing = tomlkit.aot()
        document[kind] = existing
    existing.append(table)
    replace_text(config, tomlkit.dumps(document))


def set_section(config: HostPath, section: str, settings: SharedSettings) -> None:
    """Set the values of a section of ctxfs.toml that differ from the defaults, and remove others. Other text stays."""
    import tomlkit

    document = tomlkit.parse(config.read_text(encoding="utf-8"))
    table = document.setdefault(section, tomlkit.table())
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if value != item.default:
            table[item.name] = value
        elif item.name in table:
            del table[item.name]
    replace_text(config, tomlkit.dumps(document))


def _section_of(kind: type[Source] | type[ServerSource]) -> str:
    return "source" if kind is Source else "server"


def remove_source(config: HostPath, name: str, what: type[Source] | type[ServerSource] = Source) -> bool:
    """Remove a source or a server from ctxfs.toml; return False if it is absent. A source's folder is not touched."""
    import tomlkit

    document = tomlkit.parse(config.read_text(encoding="utf-8"))
    kind = _section_of(what)
    entries = document.get(kind)
    for position, entry in enumerate(entries or ()):
        if entry.get("name") == name:
            del entries[position]  # type: ignore[union-attr]  # tomlkit types it as a plain Item
            if not entries:
                del document[kind]
            replace_text(config, tomlkit.dumps(document))
            return True
    return False
