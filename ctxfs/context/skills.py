"""Skills: folders `skills/<name>/` with a SKILL.md whose YAML front matter gives a name and a description. Pure."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ctxfs.index.extract.front_matter import parse_yaml_table
from ctxfs.model.path import Path

MANIFEST = "SKILL.md"
PATTERN = f"**/skills/*/{MANIFEST}"
_BLOCK = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_MAX_BLOCK_CHARS = 65_536
_MAX_DESCRIPTION_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill folder of the tree; `fault` is the reason why it is invalid, or empty."""

    path: Path
    name: str
    description: str
    frontmatter: dict[str, Any]
    fault: str = ""


def parse_skill(path: Path, data: bytes) -> Skill:
    """Parse the SKILL.md of the folder `path` into a skill."""
    try:
        frontmatter = _parse_frontmatter(data)
    except ValueError as error:
        return Skill(path, path.name, "", {}, str(error))
    name, description = frontmatter.get("name"), frontmatter.get("description")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        fault = "its name is not small letters, digits and '-'"
    elif name != path.name:
        fault = f"its name is '{name}', its folder '{path.name}'"
    elif not isinstance(description, str) or not description.strip():
        fault = "it has no description"
    elif len(description) > _MAX_DESCRIPTION_CHARS:
        fault = f"its description has more than {_MAX_DESCRIPTION_CHARS} characters"
    else:
        return Skill(path, name, description, frontmatter)
    return Skill(path, path.name, "", frontmatter, fault)


def _parse_frontmatter(data: bytes) -> dict[str, Any]:
    """Return the YAML front matter of a SKILL.md; raise ValueError with the fault."""
    try:
        match = _BLOCK.match(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    if match is None or len(match[1]) > _MAX_BLOCK_CHARS:
        raise ValueError("it does not begin with YAML between two lines of ---")
    table = parse_yaml_table(match[1])
    try:
        json.dumps(table, allow_nan=False)
    except (RecursionError, ValueError, TypeError) as error:
        raise ValueError(f"its YAML cannot be read: {' '.join(str(error).split())[:200]}") from error
    return table


def skill_folders(paths: Iterable[str]) -> list[Path]:
    """Return the folders of the SKILL.md files among these paths, without folders inside another skill."""
    folders: list[Path] = []
    for folder in sorted(Path.parse(path).parent for path in paths):
        if not any(folder.is_below(other) for other in folders):
            folders.append(folder)
    return folders
