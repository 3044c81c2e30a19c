"""AGENTS.md at the root: how to use this tree, made from what is mounted, short enough to be read every time."""

import errno
from collections.abc import Callable, Sequence

from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, printable

_NAME = "AGENTS.md"
_MAX_SOURCES = 12


class GuideMount(Mount):
    """One generated file."""

    def __init__(self, sources: Callable[[], Sequence[tuple[str, bool]]]) -> None:
        self._sources = sources

    async def stat(self, path: Path) -> Entry:
        """AGENTS.md, or the directory that holds it."""
        return directory("") if path.is_root else snapshot(path.name, await self.read(path))

    async def list(self, path: Path) -> Sequence[Entry]:
        """AGENTS.md."""
        if not path.is_root:
            raise not_found(path)
        return [await self.stat(ROOT / _NAME)]

    async def read(self, path: Path) -> bytes:
        """The guide as of now."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        if str(path) != _NAME:
            raise not_found(path)
        return render_guide(self._sources()).encode()


def render_guide(sources: Sequence[tuple[str, bool]]) -> str:
    """The text, under 600 tokens; `sources` are (name, writable)."""
    shown = [f"`{printable(name)}`{' (writable)' if writable else ''}" for name, writable in sources[:_MAX_SOURCES]]
    more = f" and {len(sources) - _MAX_SOURCES} more" if len(sources) > _MAX_SOURCES else ""
    return f"""# How to use this tree

Everything here is a file; ls, cat, grep and your editor work.

| place | what it is |
|---|---|
| `knowledge/<source>/` | folders to read: {", ".join(shown) or "none yet"}{more} |
| `memory/<you>/<kind>/` | what you keep; kind: fact, episodic, procedural, experiential, user |
| `memory/shared/` | what everybody keeps |
| `pad/<task>/` | scratch space |
| `search/<question>/` | a path that is a question |
| `context/<task>/` | a context built to a token budget |
| `history/<date>/<session>.jsonl` | what was said and done; add with `>>` |

## Ask
- `ls 'search/how do we rotate keys'`: links to the files that answer, best first.
- `cat 'search/how do we rotate keys/context.md'`: the packed answer; `context@2000.md` for at most 2000 tokens.
- `results.jsonl` beside it: path, lines, score, why; first, if anything could not be searched.
- `ls 'knowledge/x/.search/<question>'`: the same, below one directory only.
- Operators: `"a phrase"` `+must` `-not` `kind:fact` `path:docs` `author:ada` `since:7d` `mode:words`. `%2F` stands for a slash.

## Go back
Every write under `memory/` and `pad/` is a version: `ls <dir>/.versions/<file>/`, `cat …/prev`, restore with `cp`.
`ls '.snapshots/1h-ago/memory'` is the whole tree then. In a shell: `ctxfs log|diff|undo|restore PATH`.

## Label
`setfattr -n user.ctx.kind -v fact FILE` (or `ctxfs meta set FILE kind=fact`): kind, source, confidence (0 to 1), tags,
description, expires_at, pinned. Ask by them: `kind:fact tag:deploy confidence:>0.8`.

## Build a context
`mkdir context/my-task`, edit `request.toml` (query, budget, paths, pins), read `context.md`; `manifest.json` says
what is in it and why. Each read of `stream` gives the next piece, of `delta.md` what changed in your window. Write your answer
to `response.md`: `evaluation.json` checks each claim.

## Keep in mind
Search before you read whole files. Write memories as short Markdown files, one fact each. `.ctxfs/status` tells what is indexed.
"""
