"""Installation of hooks in the settings of a client, and their removal: edits of the text, everything else stays.

A receipt in the store (`<store>/history/capture/installed.json`) has the text of a file before the installation, and
the containers that the installation made in it. So removal restores that text, if the file has not changed since, and
otherwise leaves the containers that were there before.
"""

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as HostPath
from typing import Any

from ctxfs.capture.client_hooks import HookClient, HookCommand, store_of_command
from ctxfs.eventlog.capture_spool import FOLDER
from ctxfs.model.errors import CommandError
from ctxfs.store.durable_file import replace_file
from ctxfs.store.foreign_settings import (
    ForeignSettings,
    check_writable,
    read_settings,
    remove_settings,
    replace_settings,
)
from ctxfs.store.jsonc import JsonError, Node, insert_item, parse_json, remove_item

_HOOKS = "hooks"
_RECEIPTS = "installed.json"
_FOLDER = "/"  # in a receipt: the folder of the file
_NEW_TEXT = "{}\n"


@dataclass(frozen=True, slots=True)
class Receipt:
    """An installation in a file: the text before (None: no file), the digest of that after, the containers it made."""

    before: str | None
    sha256: str
    created: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """A change of a settings file that is not written yet. `after` is None if the file is to be removed.

    `receipt` is stored in `stores` when it is written; None removes the one there. `has_own_folder` is True if the
    installation made the folder of the file.
    """

    file: HostPath
    settings: ForeignSettings
    after: str | None
    stores: tuple[str, ...] = ()
    has_own_folder: bool = False
    receipt: Receipt | None = None

    @property
    def is_empty(self) -> bool:
        """True if nothing changes."""
        return self.after == self.settings.text

    @property
    def diff(self) -> str:
        """Return the change as a unified diff."""
        before, after = ((text or "").splitlines(keepends=True) for text in (self.settings.text, self.after))
        name = str(self.settings.path)
        lines = difflib.unified_diff(before, after, name if self.settings.exists else "/dev/null", name)
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    def write(self) -> None:
        """Write the change, then its receipt. Raise CommandError if the file changed or cannot be written."""
        if self.after is None:
            remove_settings(self.file, self.settings)
            if self.has_own_folder:
                with contextlib.suppress(OSError):  # it has other files now
                    self.settings.path.parent.rmdir()
        elif not self.is_empty:
            replace_settings(self.file, self.settings, self.after)
        for store in self.stores:
            _write_receipt(HostPath(store), str(self.settings.path), self.receipt)


def plan_install(client: HookClient, file: HostPath, command: HookCommand, events: Sequence[str]) -> SettingsChange:
    """Return the change that installs hooks for our events. Raise CommandError if the file cannot be edited safely."""
    settings = read_settings(file)
    check_writable(file, settings)
    entries = {client.events[event]: client.entry(event, command.line(event)) for event in events}
    store = command.store
    try:
        text = settings.text if settings.text is not None and settings.text.strip() else _NEW_TEXT
        if _own_entries(parse_json(text), client, store) == entries:
            return SettingsChange(file, settings, settings.text)
        before, created = _without_own(client, settings, store)
        if before is None and _is_own_folder(settings, store):
            created.append(_FOLDER)
        after = before if before is not None and before.strip() else _NEW_TEXT
        for name, value in client.header.items():
            after = _ensure_member(after, (), name, value, created)
        for name, entry in entries.items():
            after = _ensure_member(after, (), _HOOKS, {}, created)
            after = _ensure_member(after, (_HOOKS,), name, [], created)
            after = insert_item(after, _node_at(parse_json(after), (_HOOKS, name)), entry)
        _check(after, text, client, store, entries)
    except JsonError as error:
        raise _refusal(file, error, _remedy(client, entries)) from error
    receipt = Receipt(before, _digest(after), tuple(dict.fromkeys(created)))
    return SettingsChange(file, settings, after, (store,), receipt=receipt)


def plan_uninstall(client: HookClient, file: HostPath, store: str) -> SettingsChange:
    """Return the change that removes the hooks of a store, or of every store if it is empty."""
    settings = read_settings(file)
    if settings.text is None or not settings.text.strip():
        return SettingsChange(file, settings, settings.text)
    try:
        stores = tuple(dict.fromkeys(name for name, _, _ in _own_handlers(parse_json(settings.text), client, store)))
        if not stores:
            return SettingsChange(file, settings, settings.text)
        check_writable(file, settings)
        after: str | None = settings.text
        for name in stores:
            after, _ = _without_own(client, ForeignSettings(settings.path, after), name)
        _check(after if after is not None and after.strip() else _NEW_TEXT, settings.text, client, store, {})
    except JsonError as error:
        raise _refusal(file, error, "take the entries with 'capture hook' out of it yourself") from error
    return SettingsChange(file, settings, after, stores, any(_is_own_folder(settings, name) for name in stores))


def _is_own_folder(settings: ForeignSettings, store: str) -> bool:
    """Return True if the installation of a store made, or is about to make, the folder of a file."""
    receipt = _read_receipts(HostPath(store)).get(str(settings.path))
    return not settings.path.parent.exists() or (receipt is not None and _FOLDER in receipt.created)


def _without_own(client: HookClient, settings: ForeignSettings, store: str) -> tuple[str | None, list[str]]:
    """Return (the text without the entries of a store, None for no file; the remaining containers of its installation)."""
    if settings.text is None or not settings.text.strip():
        return settings.text, []
    receipt = _read_receipts(HostPath(store)).get(str(settings.path))
    if receipt is not None and receipt.sha256 == _digest(settings.text):
        return receipt.before, []
    text = _remove_own(settings.text, client, store, None if receipt is None else set(receipt.created))
    if text == _NEW_TEXT and receipt is not None and not (receipt.before or "").strip():
        return receipt.before, []
    remaining = [name for name in (receipt.created if receipt is not None else ()) if _has_path(text, name)]
    return text, remaining


def _has_path(text: str, name: str) -> bool:
    try:
        _node_at(parse_json(text), name.split("."))
    except JsonError:
        return False
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _remedy(client: HookClient, entries: Mapping[str, Any]) -> str:
    wanted = {**client.header, _HOOKS: {name: [entry] for name, entry in entries.items()}}
    return f"repair it, or add this to it yourself:\n{json.dumps(wanted, indent=2, ensure_ascii=False)}"


def _refusal(file: HostPath, error: JsonError, remedy: str) -> CommandError:
    return CommandError(f"'{file}' was not changed: it cannot be edited safely ({error})", remedy)


def _node_at(root: Node, path: Sequence[str]) -> Node:
    node = root
    for name in path:
        member = node.member(name) if node.kind == "object" else None
        if member is None:
            raise JsonError(f"'{name}' is missing")
        node = member
    return node


def _ensure_member(text: str, path: Sequence[str], name: str, value: Any, created: list[str]) -> str:
    """Return a text in which an object has a member; an existing one has to be of the same kind."""
    node = _node_at(parse_json(text), path)
    if node.kind != "object":
        raise JsonError(f"'{'.'.join(path) or 'the file'}' is no object")
    member = node.member(name)
    if member is None:
        created.append(".".join((*path, name)))
        return insert_item(text, node, value, name)
    if isinstance(value, dict | list) and not isinstance(member.plain, type(value)):
        raise JsonError(f"'{'.'.join((*path, name))}' is no {'object' if isinstance(value, dict) else 'list'}")
    return text


def _own_handlers(root: Node, client: HookClient, store: str) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield (store, the client's event, (index of the entry, index of the handler in its group)) of our handlers."""
    if root.kind != "object":
        raise JsonError("the file is no object")
    hooks = root.member(_HOOKS)
    if hooks is None or hooks.kind != "object":
        return
    for event in dict.fromkeys(hooks.names):
        entries = hooks.member(event)
        for index, entry in enumerate(entries.items if entries is not None and entries.kind == "array" else ()):
            for position, handler in enumerate(_handlers_of(entry, client)):
                value = handler.plain
                owner = store_of_command(value.get("command"), client.name) if isinstance(value, dict) else None
                if owner is not None and store in ("", owner):
                    yield owner, event, (index, position)


def _handlers_of(entry: Node, client: HookClient) -> Sequence[Node]:
    if client.form == "commands":
        return [entry]
    group = entry.member(_HOOKS) if entry.kind == "object" else None
    return group.items if group is not None and group.kind == "array" else ()


def _own_entries(root: Node, client: HookClient, store: str) -> dict[str, Any]:
    """Return our entries by the client's events; an event with several, or within a group of others, is left out."""
    handlers = list(_own_handlers(root, client, store))
    counts = {event: [name for _, name, _ in handlers].count(event) for _, event, _ in handlers}
    return {
        event: _node_at(root, (_HOOKS, event)).items[index].plain if counts[event] == 1 else None
        for _, event, (index, _) in handlers
    }


def _remove_own(text: str, client: HookClient, store: str, created: set[str] | None) -> str:
    """Return a text without our entries, and without the empty containers that the installation made.

    `created` is None if there is no receipt: then every container that gets empty is removed.
    """
    emptied: dict[str, None] = {}
    while handlers := list(_own_handlers(parse_json(text), client, store)):
        _, event, (index, position) = handlers[-1]
        entries = _node_at(parse_json(text), (_HOOKS, event))
        entry = entries.items[index]
        if client.form == "groups" and len(_handlers_of(entry, client)) > 1:
            text = remove_item(text, _node_at(entry, (_HOOKS,)), position)
        else:
            text = remove_item(text, entries, index)
        emptied[event] = None
    for path in [*((_HOOKS, event) for event in emptied), *((_HOOKS,) for _ in emptied)]:
        text = _remove_if_empty(text, path, created)
    for name, value in client.header.items():
        root = parse_json(text)
        member, hooks = root.member(name), root.member(_HOOKS)
        is_ours = member is not None and member.plain == value and name in (created or ())
        if emptied and is_ours and (hooks is None or not hooks.items):
            text = remove_item(text, root, root.names.index(name))
    return text


def _remove_if_empty(text: str, path: Sequence[str], created: set[str] | None) -> str:
    root = parse_json(text)
    parent = _node_at(root, path[:-1])
    node = parent.member(path[-1]) if parent.kind == "object" else None
    if node is None or node.items or (created is not None and ".".join(path) not in created):
        return text
    return remove_item(text, parent, parent.names.index(path[-1]))


def _check(after: str, before: str, client: HookClient, store: str, entries: Mapping[str, Any]) -> None:
    """Raise JsonError unless a text differs from the one before by our entries alone: everything else has to stay."""
    root = parse_json(after)
    if _own_entries(root, client, store) != dict(entries):
        raise JsonError("the entries would be in the wrong position")
    if _others(root, client, store) != _others(parse_json(before), client, store):
        raise JsonError("another entry would change")
    if _comments(after) != _comments(before):
        raise JsonError("a comment would change")


def _others(root: Node, client: HookClient, store: str) -> Any:
    """Return the plain settings without our entries, and without empty containers of hooks and the header."""
    plain = root.plain
    for _, event, (index, position) in sorted(_own_handlers(root, client, store), key=lambda item: item[1:])[::-1]:
        entry = plain[_HOOKS][event][index]
        if client.form == "groups" and len(entry[_HOOKS]) > 1:
            del entry[_HOOKS][position]
        else:
            del plain[_HOOKS][event][index]
    if isinstance(plain.get(_HOOKS), dict):
        plain[_HOOKS] = {event: value for event, value in plain[_HOOKS].items() if value}
    return {name: value for name, value in plain.items() if value != client.header.get(name, {})}


def _comments(text: str) -> list[str]:
    """Return the comments of a JSON text, in order."""
    comments, position = [], 0
    while position < len(text):
        if text[position] == '"':
            position = json.JSONDecoder().raw_decode(text, position)[1]
        elif text.startswith(("//", "/*"), position):
            is_line = text.startswith("//", position)
            end = text.find("\n" if is_line else "*/", position + 2)
            end = len(text) if end < 0 else end + (0 if is_line else 2)
            comments.append(text[position:end].rstrip("\r"))
            position = end
        else:
            position += 1
    return comments


def _receipt_file(store: HostPath) -> HostPath:
    return store / "history" / FOLDER / _RECEIPTS


def _read_receipts(store: HostPath) -> dict[str, Receipt]:
    try:
        receipts = json.loads(_receipt_file(store).read_bytes())
        return {
            str(file): Receipt(
                None if item["before"] is None else str(item["before"]),
                str(item["sha256"]),
                tuple(map(str, item["created"])),
            )
            for file, item in receipts.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def _write_receipt(store: HostPath, file: str, receipt: Receipt | None) -> None:
    """Store the receipt of a file, or remove it. A store that is gone has none."""
    if not store.is_dir():
        return
    path = _receipt_file(store)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # installations at once take turns, so that no receipt is lost
        receipts = {name: asdict(other) for name, other in _read_receipts(store).items() if name != file}
        if receipt is not None:
            receipts[file] = asdict(receipt)
        replace_file(path, json.dumps(receipts, indent=1).encode() + b"\n", 0o600)
    finally:
        os.close(folder)
