"""RPC methods on skills: list them, and list the files of one. Plain values in, plain values out."""

import errno
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.context.skills import MANIFEST, PATTERN, Skill, parse_skill, places_of
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.vfs.session import Session

_AREAS = ("knowledge", "memory")
_MOST_SKILLS = 10_000
_MOST_FILES = 512
_MOST_BYTES = 16 * 1024 * 1024


async def _skills(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return every folder in the position of a skill, by path; `fault` gives the reason why one is no skill."""
    paths = await app.search.glob(PATTERN, ROOT, _MOST_SKILLS)
    places = places_of(path for path in paths if path.split("/")[0] in _AREAS)
    found = []
    for place in places:
        try:
            found.append(_record(await _skill_at(caller.tree, place)))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # deleted meanwhile, or quarantined
    return found


async def _skill(app: App, caller: Session, args: Mapping[str, Any]) -> Any:
    """Return one skill with its files: [path below it, sha256, bytes].

    Raise OSError ENOENT for a folder that is no skill, EFBIG for one that holds too much.
    """
    place = Path.parse(str(args["path"]))
    if len(place.parts) < 3 or place.parts[0] not in _AREAS or place.parts[-2] != "skills":
        raise not_found(place)
    skill = await _skill_at(caller.tree, place)
    if skill.fault:
        raise path_error(errno.ENOENT, place, f"this is no skill: {skill.fault}")
    files: list[tuple[str, str, int]] = []
    await _add_files(caller.tree, place, files)
    return {**_record(skill), "files": [list(file) for file in files]}


async def _skill_at(tree: Mount, place: Path) -> Skill:
    return parse_skill(place, await tree.read(place / MANIFEST))


async def _add_files(tree: Mount, place: Path, files: list[tuple[str, str, int]]) -> None:
    """Append (path, sha256, bytes) of each regular file below a folder.

    Links are skipped, because they may lead anywhere.
    """
    pending, directories = [Path()], 0
    while pending:
        inside = pending.pop()
        directories += 1
        for entry in await tree.list(place.join(inside)):
            at = inside / entry.name
            if entry.is_dir:
                pending.append(at)
            elif entry.kind == "file":
                data = await tree.read(place.join(at))
                files.append((str(at), hashlib.sha256(data).hexdigest(), len(data)))
            if len(files) + directories > _MOST_FILES or sum(size for *_, size in files) > _MOST_BYTES:
                raise path_error(
                    errno.EFBIG, place, f"a skill holds {_MOST_FILES} files and {_MOST_BYTES} bytes at most"
                )


def _record(skill: Skill) -> dict[str, Any]:
    return {
        "path": str(skill.path),
        "name": skill.name,
        "description": skill.description,
        "frontmatter": skill.frontmatter,
        "fault": skill.fault,
    }


SKILL_METHODS: Mapping[str, Callable[[App, Session, Mapping[str, Any]], Awaitable[Any]]] = {
    "skills": _skills,
    "skill": _skill,
}
