"""RPC methods on skills: list them, and list the files of one. Plain values in, plain values out."""

import errno
import hashlib
from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.context.skills import MANIFEST, PATTERN, Skill, parse_skill, skill_folders
from ctxfs.daemon.api.params import PathParams
from ctxfs.daemon.api.registry import Check, Effect, method
from ctxfs.memory.states import RETIRED, state_of
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.vfs.session import Session

_AREAS = ("knowledge", "memory")
_MAX_SKILLS = 10_000
_MAX_FILES = 512
_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SkillsParams:
    """With `include_retired` also merged and archived skills."""

    include_retired: bool = False


@method("skills", SkillsParams, needs=Check.BY_METHOD, effects=Effect.READS_INDEX)
async def _skills(app: App, caller: Session, params: SkillsParams) -> Any:
    """Return every folder in the position of a skill, by path; `fault` gives the reason why one is no skill.

    `state` is that of the SKILL.md.
    """
    paths = await app.search.glob(PATTERN, ROOT, _MAX_SKILLS)
    folders = skill_folders(path for path in paths if path.split("/")[0] in _AREAS)
    records = []
    for folder in folders:
        try:
            state = state_of(await caller.tree.metadata(folder / MANIFEST))
            if params.include_retired or state not in RETIRED:
                records.append({**_record(await _skill_at(caller.tree, folder)), "state": state})
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # deleted meanwhile, or quarantined
    return records


@method("skill", PathParams, needs=Check.BY_METHOD)
async def _skill(app: App, caller: Session, params: PathParams) -> Any:
    """Return one skill with its files: [path below it, sha256, bytes].

    Raise OSError ENOENT for a folder that is no skill, EFBIG for one that holds too much.
    """
    folder = params.path
    if len(folder.parts) < 3 or folder.parts[0] not in _AREAS or folder.parts[-2] != "skills":
        raise not_found(folder)
    skill = await _skill_at(caller.tree, folder)
    if skill.fault:
        raise path_error(errno.ENOENT, folder, f"this is no skill: {skill.fault}")
    files: list[tuple[str, str, int]] = []
    await _add_files(caller.tree, folder, files)
    return {**_record(skill), "files": [list(file) for file in files]}


async def _skill_at(tree: Mount, folder: Path) -> Skill:
    return parse_skill(folder, await tree.read(folder / MANIFEST))


async def _add_files(tree: Mount, folder: Path, files: list[tuple[str, str, int]]) -> None:
    """Append (path, sha256, bytes) of each regular file below a folder.

    Links are skipped, because they may lead anywhere.
    """
    pending, directories = [Path()], 0
    while pending:
        inside = pending.pop()
        directories += 1
        for entry in await tree.list(folder.join(inside)):
            relative = inside / entry.name
            if entry.is_dir:
                pending.append(relative)
            elif entry.kind == "file":
                data = await tree.read(folder.join(relative))
                files.append((str(relative), hashlib.sha256(data).hexdigest(), len(data)))
            if len(files) + directories > _MAX_FILES or sum(size for *_, size in files) > _MAX_BYTES:
                raise path_error(
                    errno.EFBIG, folder, f"a skill holds {_MAX_FILES} files and {_MAX_BYTES} bytes at most"
                )


def _record(skill: Skill) -> dict[str, Any]:
    return {
        "path": str(skill.path),
        "name": skill.name,
        "description": skill.description,
        "frontmatter": skill.frontmatter,
        "fault": skill.fault,
    }
