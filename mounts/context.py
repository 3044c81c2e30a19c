"""context/<task>/: contexts built to a budget.

`mkdir context/<task>` makes `request.toml`; `context.md` and `manifest.json` follow from it and from the index; where a
build fails `error.txt` says why and the last good context stays.
"""

import errno
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ctxfs.context.constructor import Context
from ctxfs.context.request import Request, default_request, parse_request
from ctxfs.index.answers import Generation
from ctxfs.model.change import Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import invalid, not_found, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path

Build = Callable[[Request], Awaitable[Context]]

REQUEST = "request.toml"
_BUILT = ("context.md", "manifest.json")
_ERROR = "error.txt"
_MAX_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class _Built:
    """What a task's request led to."""

    request: bytes
    generation: Generation
    at: float
    made_ns: int
    context: Context | None
    error: str


class ContextMount(Mount):
    """Tasks are directories of `requests`, their files real ones; context.md, manifest.json and error.txt are made from them."""

    def __init__(
        self, requests: Mount, build: Build, generation: Callable[[], Generation], default_budget: int
    ) -> None:
        self._requests = requests
        self._build = build
        self._generation = generation
        self._default_budget = default_budget
        self._built: dict[str, _Built] = {}

    async def stat(self, path: Path) -> Entry:
        """Sizes are those of a read; a derived file exists when it could be made."""
        if path.is_root:
            return directory("", mode=0o755)
        task = await self._task(path)
        if len(path.parts) == 1:
            return task
        if not _is_derived(path):
            return await self._requests.stat(path)
        return snapshot(path.name, await self.read(path), mtime_ns=(await self._fresh(path.parts[0])).made_ns)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Tasks at the top; in a task its files and what came of the request."""
        if path.is_root:
            return [entry for entry in await self._requests.list(ROOT) if entry.is_dir]
        await self._task(path)
        own = {entry.name: entry for entry in await self._requests.list(path)}
        if len(path.parts) == 1 and REQUEST in own:
            built = await self._fresh(path.name)
            made = (*(_BUILT if built.context else ()), *((_ERROR,) if built.error else ()))
            own |= {name: await self.stat(path / name) for name in made}
        return [own[name] for name in sorted(own)]

    async def read(self, path: Path) -> bytes:
        """The request as it was written, or what was made from it."""
        if path.is_root or (await self._task(path) and len(path.parts) == 1):
            raise path_error(errno.EISDIR, path)
        if not _is_derived(path):
            return await self._requests.read(path)
        await self._requests.stat(Path((path.parts[0], REQUEST)))
        built = await self._fresh(path.parts[0])
        if path.name == _ERROR and built.error:
            return f"{built.error}\n".encode("utf-8", "replace")
        if path.name == "context.md" and built.context:
            return built.context.text.encode("utf-8", "replace")
        if path.name == "manifest.json" and built.context:
            return built.context.manifest
        raise not_found(path)

    async def apply(self, change: Change) -> None:
        """Tasks are made, renamed and removed whole; in a task everything but what is derived is the user's.

        Removing a derived file does nothing: it is made again at the next look. So `rm -r` works.
        """
        match change:
            case MakeDir(path) if len(path.parts) == 1:
                await self._requests.apply(change)
                text = default_request(path.name.replace("-", " ").replace("_", " "), self._default_budget)
                await self._requests.apply(Put(path / REQUEST, text.encode("utf-8", "replace")))
            case Remove(path) if len(path.parts) == 1:
                for entry in await self._requests.list(path):
                    await self._requests.apply(Remove(path / entry.name))
                await self._requests.apply(change)
                self._built.pop(path.name, None)
            case Remove(path) if _is_derived(path):
                await self.stat(path)
            case Move(path, to) if len(path.parts) == len(to.parts) <= 2 and not (_is_derived(path) or _is_derived(to)):
                await self._requests.apply(change)
                self._built.pop(path.parts[0], None)
            case Put(path, data) if len(path.parts) == 2 and not _is_derived(path):
                if len(data) > _MAX_BYTES:
                    raise path_error(errno.EFBIG, path)
                await self._task(path)
                await self._requests.apply(change)
            case Remove(path) | SetMeta(path) if len(path.parts) == 2 and not _is_derived(path):
                await self._requests.apply(change)
            case _:
                raise not_permitted(
                    change.path, "a task is a flat directory, and what is derived in it cannot be written"
                )

    async def _task(self, path: Path) -> Entry:
        entry = await self._requests.stat(Path(path.parts[:1]))
        if not entry.is_dir:
            raise not_found(path)
        return entry

    async def _fresh(self, task: str) -> _Built:
        """The state of a task now: built again when the request or the index changed."""
        try:
            request = await self._requests.read(Path((task, REQUEST)))
        except FileNotFoundError:
            request = b""
        old = self._built.get(task)
        generation = self._generation()
        unchanged = old is not None and old.request == request
        if old and unchanged and generation.allows(old.generation, time.monotonic() - old.at):
            return old
        context, error = None, ""
        try:
            context = await self._build(self._parsed(request))
        except OSError as failure:
            error = failure.strerror or str(failure)
            context = old.context if old else None  # the last good context stays
        built = _Built(request, generation, time.monotonic(), time.time_ns(), context, error)
        self._built[task] = built
        return built

    def _parsed(self, request: bytes) -> Request:
        try:
            return parse_request(request.decode("utf-8"), self._default_budget)
        except UnicodeDecodeError as error:
            raise invalid(REQUEST, f"request.toml is not UTF-8: {error}") from error


def _is_derived(path: Path) -> bool:
    return len(path.parts) == 2 and path.name in (*_BUILT, _ERROR)
