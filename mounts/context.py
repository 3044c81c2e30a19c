"""The mount context/<task>/: contexts built to a budget, incremental delivery, and evaluation of responses.

`mkdir context/<task>` creates `request.toml`. `context.md` and `manifest.json` are derived from it and from the index.
If a build fails, `error.txt` contains the reason, and the last successful context stays. Reachable by name only,
because reading them delivers: `stream` (the next text), `stream@N` (that text again), `delta.md` (the pieces that the
reader's window has to add, replace and drop). `response.md` is the response of a model; `evaluation.json` is derived
from it. Deliveries (`loads.jsonl`, `window-*.json`) and answered contexts are recorded outside the tree. Each is
visible to its recipient.

A task belongs to the principal that created it (`policy.owners`). Text derived from other files is readable for
principals that may read all of them.
"""

import errno
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import trio

from ctxfs.context.build.render import NAMES
from ctxfs.context.build.request_template import default_request
from ctxfs.context.delivery.expiry import REQUEST
from ctxfs.context.delivery.records import sources_of_window, window_name
from ctxfs.context.delivery.tasks import EVALUATION, RESPONSE, Tasks
from ctxfs.model.change import Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.policy.derived_access import may_read_derived
from ctxfs.policy.owners import Owners
from ctxfs.policy.scope import ReadScope
from ctxfs.store.record_names import ANSWERED, LOADS, is_record
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_branch, acting_principal

_MANIFEST = "manifest.json"
_ERROR = "error.txt"
_DELTA = "delta.md"
_STREAM = re.compile(r"stream(?:@(\d{1,9}))?")
_DERIVED = (*NAMES.values(), _MANIFEST, _ERROR, _DELTA, EVALUATION)
_MAX_BYTES = 16_000_000


class ContextMount(Mount):
    """The tasks, directories of `requests` with real files; derived files are generated from these."""

    def __init__(
        self,
        requests: Mount,
        tasks: Tasks,
        default_budget: int,
        owner: str,
        owners: Owners,
        scope: ReadScope,
    ) -> None:
        """Open the mount; `owner` acts if there is no calling principal."""
        self._owners = owners
        self._lock = trio.Lock()
        self._scope = scope
        self._requests = requests
        self._tasks = tasks
        self._default_budget = default_budget
        self._owner = owner

    async def stat(self, path: Path) -> Entry:
        """Return an entry with the size of a read; a derived file exists if it can be generated."""
        if path.is_root:
            return directory("", mode=0o755)
        task = await self._task_entry(path)
        if len(path.parts) == 1:
            return task
        await self._check_readable(path)
        if _is_record(path):
            entry = await self._tasks.record_entry(*path.parts)
            if path.name == LOADS and not self._scope.sees_all():
                entry = snapshot(LOADS, await self.read(path), mtime_ns=entry.mtime_ns)
            return _as_derived(entry)
        if not _is_derived(path):
            return await self._requests.stat(path)
        data = await self._read_derived(path, deliver=False)
        made_ns = (await self._tasks.build_if_changed(path.parts[0])).made_ns
        return _as_derived(snapshot(path.name, data, mtime_ns=made_ns))

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the tasks at the root; in a task its files, derived files and records."""
        if path.is_root:
            return [entry for entry in await self._requests.list(ROOT) if entry.is_dir]  # less others', by the guard
        await self._task_entry(path)
        entries = {entry.name: entry for entry in await self._requests.list(path) if not _is_record(path / entry.name)}
        entries = {name: entry for name, entry in entries.items() if await self._is_readable(path / name)}
        if len(path.parts) == 1 and REQUEST in entries:
            built = await self._tasks.build_if_changed(path.name)
            derived = (NAMES[built.context.request.format], _MANIFEST) if built.context else ()
            errors = (_ERROR,) if await self._tasks.error(path.name) else ()
            recorded = [name for name in await self._tasks.records(path.name) if await self._is_readable(path / name)]
            entries |= {name: await self.stat(path / name) for name in (*derived, *errors, *recorded)}
            if RESPONSE in entries and await self._tasks.has_response(path.name):
                # Judging takes longer than listing: a directory listing does not pay for the size.
                version = f"{entries[RESPONSE].version}-{built.made_ns:x}"
                evaluation = Entry(EVALUATION, "file", version=version, size=None, mtime_ns=built.made_ns)
                entries[EVALUATION] = _as_derived(evaluation)
        return [entries[name] for name in sorted(entries)]

    async def read(self, path: Path) -> bytes:
        """Return the content of a written or derived file. Reading `stream` and `delta.md` delivers."""
        if path.is_root or (await self._task_entry(path) and len(path.parts) == 1):
            raise path_error(errno.EISDIR, path)
        await self._check_readable(path)
        if _is_record(path):
            data = await self._tasks.record(*path.parts)
            return (
                data if path.name != LOADS or self._scope.sees_all() else _filter_loads(data, str(acting_principal()))
            )
        if not _is_derived(path):
            return await self._requests.read(path)
        return await self._read_derived(path, deliver=True)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the metadata of a written file; empty for derived ones."""
        await self.stat(path)
        return {} if path.is_root or _is_generated(path) else await self._requests.metadata(path)

    async def _read_derived(self, path: Path, *, deliver: bool) -> bytes:
        task, name = path.parts
        await self._requests.stat(Path((task, REQUEST)))
        reader = str(acting_principal() or self._owner)
        if match := _STREAM.fullmatch(name):
            return await self._tasks.stream(task, reader, at=int(match[1]) if match[1] else None, deliver=deliver)
        if name == _DELTA:
            return await self._tasks.delta(task, reader, deliver=deliver)
        if name == EVALUATION:
            return await self._tasks.evaluation(task)
        if name == _ERROR and (error := await self._tasks.error(task)):
            return f"{error}\n".encode("utf-8", "replace")
        context = (await self._tasks.build_if_changed(task)).context
        if context is not None and name == NAMES[context.request.format]:
            return await self._tasks.snapshot(task, reader) if deliver else context.text.encode("utf-8", "replace")
        if context is not None and name == _MANIFEST:
            return context.manifest
        raise not_found(path)

    async def apply(self, change: Change) -> None:
        """Create, rename and remove whole tasks, and write files in them; derived files are read-only.

        Removing a derived file has no effect, because it is generated on read. So `rm -r` works.
        """
        match change:
            case MakeDir(path) if len(path.parts) == 1:
                await self._create_task(path)
                text = default_request(path.name.replace("-", " ").replace("_", " "), self._default_budget)
                if (branch := acting_branch()) is not None:
                    text += f'branch = "{branch.name}"\n'
                await self._requests.apply(Put(path / REQUEST, text.encode("utf-8", "replace")))
            case Remove(path) if len(path.parts) == 1:
                for entry in await self._requests.list(path):
                    await self._requests.apply(Remove(path / entry.name))
                await self._requests.apply(change)
                await self._tasks.drop_or_move(path.name)
            case Remove(path) if _is_generated(path):
                await self._task_entry(
                    path
                )  # it may be gone with the file that it was derived from, as `rm -r` proceeds
            case Move(path, to) if len(path.parts) == len(to.parts) == 1:
                await blocking(self._owners.set_owners, _in_tree(to), self._owners.owners_of(_in_tree(path)))
                await self._requests.apply(change)
                await self._tasks.drop_or_move(path.name, to.name)
            case Move(path, to) if len(path.parts) == len(to.parts) == 2 and not (
                _is_generated(path) or _is_generated(to)
            ):
                await self._requests.apply(change)
                self._tasks.evict(path.parts[0])
                await self._record_response(to)
            case Put(path, data) if len(path.parts) == 2 and not _is_generated(path):
                if len(data) > _MAX_BYTES:
                    raise path_error(errno.EFBIG, path)
                await self._task_entry(path)
                await self._requests.apply(change)
                await self._record_response(path)
            case Remove(path) if len(path.parts) == 2:
                await self._requests.apply(change)
            case SetMeta(path) if len(path.parts) == 2 and not _is_generated(path):
                await self._requests.apply(change)
            case _:
                raise not_permitted(
                    change.path, "a task is a flat directory, and what is derived in it cannot be written"
                )

    async def _create_task(self, path: Path) -> None:
        """Create a task, which belongs to the calling principal before it contains files."""
        async with self._lock:
            await self._check_free(path)
            await self._tasks.drop_or_move(path.name)  # of an earlier task of this name
            await blocking(self._owners.set_owners, _in_tree(path), (str(acting_principal() or self._owner),))
            await self._requests.apply(MakeDir(path))

    async def _check_free(self, path: Path) -> None:
        try:
            await self._requests.stat(path)
        except FileNotFoundError:
            return
        raise path_error(errno.EEXIST, path)

    async def _check_readable(self, path: Path) -> None:
        if not await self._is_readable(path):
            raise not_found(path)

    async def _is_readable(self, path: Path) -> bool:
        """Return False for text derived from files that the caller may not all read, and for others' windows."""
        if self._scope.sees_all() or len(path.parts) != 2:
            return True
        reader, (task, name) = acting_principal(), path.parts
        if name in (ANSWERED, EVALUATION, RESPONSE):
            sources = await self._tasks.sources_of_response(task)
            return may_read_derived(reader, self._owners.owners_of(_in_tree(path)), sources, self._scope.may_read)
        if not is_record(name) or name == LOADS:
            return True
        if name != window_name(str(reader)):
            return False
        sources = sources_of_window(await self._tasks.record(task, name))
        return may_read_derived(reader, (), sources, self._scope.may_read)

    async def _record_response(self, path: Path) -> None:
        if path.name == RESPONSE and len(path.parts) == 2:
            await self._tasks.record_answered(path.parts[0])

    async def _task_entry(self, path: Path) -> Entry:
        entry = await self._requests.stat(Path(path.parts[:1]))
        if not entry.is_dir:
            raise not_found(path)
        return entry


def _filter_loads(loads: bytes, principal: str) -> bytes:
    field = json.dumps({"principal": principal})[1:-1].encode()
    return b"".join(line for line in loads.splitlines(keepends=True) if field in line)


def _in_tree(path: Path) -> Path:
    """Return the path of the task in the whole tree."""
    return Path(("context", path.parts[0]))


def _is_record(path: Path) -> bool:
    return len(path.parts) == 2 and is_record(path.name)


def _as_derived(entry: Entry) -> Entry:
    return replace(entry, mode=0o644, derived=True)


def _is_derived(path: Path) -> bool:
    return len(path.parts) == 2 and (path.name in _DERIVED or bool(_STREAM.fullmatch(path.name)))


def _is_generated(path: Path) -> bool:
    """Return True for derived files, and for the records beside them."""
    return _is_derived(path) or _is_record(path)
