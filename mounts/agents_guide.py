"""AGENTS.md and llms.txt at the root: a guide to the tree, generated from its mounts for the calling principal."""

import errno
from collections.abc import Callable, Sequence
from urllib.parse import quote

from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, encode_name, one_line

_GUIDE, _INDEX = "AGENTS.md", "llms.txt"
_MAX_SOURCES = 5  # the whole stays under 600 tokens


class AgentsGuideMount(Mount):
    """A mount of the two generated files."""

    def __init__(self, sources: Callable[[], Sequence[tuple[str, bool]]]) -> None:
        """Use `sources`, which returns (name, writable) of the sources that the caller may see."""
        self._sources = sources

    async def stat(self, path: Path) -> Entry:
        """Return the entry of a file, or of the directory that contains both."""
        return directory("") if path.is_root else snapshot(path.name, await self.read(path))

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return both entries."""
        if not path.is_root:
            raise not_found(path)
        return [await self.stat(ROOT / name) for name in (_GUIDE, _INDEX)]

    async def read(self, path: Path) -> bytes:
        """Return the generated content."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        render = {_GUIDE: render_guide, _INDEX: render_index}.get(str(path))
        if render is None:
            raise not_found(path)
        return render(self._sources()).encode()


def render_index(sources: Sequence[tuple[str, bool]]) -> str:
    """Return llms.txt: a title, a summary, and links (the form of llmstxt.org)."""
    folders = [
        f"- [{one_line(name)}](knowledge/{quote(encode_name(name))}/): a folder{', writable' if writable else ''}"
        for name, writable in sources
    ]
    return "\n".join(
        [
            "# Context",
            "",
            "> A file system of context: knowledge to read, memory to keep, pads to work in, and the history of it all.",
            "",
            "How to use it: [AGENTS.md](AGENTS.md).",
            "",
            "## Knowledge",
            "",
            *(folders or ["Nothing yet."]),
            "",
            "## Kept here",
            "",
            "- [memory](memory/): what agents and people keep, by whom and by kind",
            "- [memory/shared](memory/shared/): what everybody keeps",
            "- [pad](pad/): scratch space of tasks",
            "- [history](history/): what was said and done",
            "",
            "## Made when it is read",
            "",
            "- [search](search/): a path that is a question: search/<question>/context.md",
            "- [context](context/): contexts built to a token budget",
            "",
        ]
    )


def render_guide(sources: Sequence[tuple[str, bool]]) -> str:
    """Return AGENTS.md, under 600 tokens; `sources` are (name, writable)."""
    shown = [f"`{one_line(name)}`{' (writable)' if writable else ''}" for name, writable in sources[:_MAX_SOURCES]]
    more = f" and {len(sources) - _MAX_SOURCES} more" if len(sources) > _MAX_SOURCES else ""
    return f"""# How to use this tree

Use ls, cat, grep and editors.

| path | content |
|---|---|
| `knowledge/<source>/` | folders to read: {", ".join(shown) or "none yet"}{more} |
| `memory/<you>/<kind>/` | your memory; kind: fact, episodic, procedural, experiential, user |
| `memory/shared/` | for all |
| `pad/<task>/` | scratch space |
| `search/<question>/` | a question as a path |
| `context/<task>/` | a context built to a token budget |
| `tools/index.md` | programs to call |
| `history/<date>/<you>.jsonl` | records; add with `>>` |

## Ask
- `ls 'search/how do we rotate keys'`: passages that answer, best first, or only `unknown.txt`; `files/`: their files.
- `cat 'search/how do we rotate keys/context.md'`: the packed answer; `context@2000.md`: within 2000 tokens.
- `results.jsonl` there: paths, lines, scores, what could not be searched.
- `knowledge/x/.search/<question>`: below one directory.
- `"a phrase"` `+must` `-not` `kind:fact` `path:docs` `author:ada` `since:7d` `mode:words`; `%2F` stands for a slash.

## Go back
Every write under `memory/` and `pad/` is a version: `ls <dir>/.versions/<file>/`, `cat …/prev`.
`.snapshots/1h-ago/` is the whole tree then. In a shell: `ctxfs log|diff|undo|restore PATH`.

## Label
`setfattr -n user.ctx.kind -v fact FILE`; so source, confidence, tags, expires_at, pinned, state. Ask by them:
`tag:deploy confidence:>0.8`, `state:archived`.

## Build a context
`mkdir context/my-task`, edit `request.toml`, read `context.md`; `manifest.json` says why what is in it. `stream` gives
the next piece, `delta.md` what changed in your window. Write your answer to `response.md`: `evaluation.json` checks it.

## Keep in mind
Search before you read whole files. Write short Markdown files, one fact each. `.ctxfs/whoami` says who you are.
"""
