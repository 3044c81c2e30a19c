"""Skills over MCP (SEP-2640): `skills/list`, `skills/get`, `resources/directory/read`, `skill://` resources.

`skill://<path>` is the file `<path>` of the tree, if it belongs to a skill.
"""

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, PaginatedRequestParams, RequestParams, Resource

from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path
from mcp_server.pagination import page_of
from mcp_server.sessions import TreeSession
from mcp_server.tree_ops import entries, stat
from mcp_server.uris import SCHEME, mime_type_of, path_of, printable_uri, shown, uri_of

EXTENSION = "io.modelcontextprotocol/skills"
SETTINGS: Mapping[str, Any] = {"directoryRead": True}
SKILL_SCHEME = "skill://"
_MANIFEST = "SKILL.md"
_DIRECTORY = "inode/directory"
_CACHING = {"ttlMs": 0, "cacheScope": "private"}  # lists depend on the principal and may change at any time


class OneParams(RequestParams):
    """The parameters of requests about one address."""

    uri: str
    cursor: str | None = None


def skill_uri(path: Path) -> str:
    """Return the address of a file or folder of a skill."""
    return SKILL_SCHEME + uri_of(path).removeprefix(SCHEME)


def skill_path(uri: str) -> Path:
    """Return the path of a `skill://` address. Raises MCPError -32602 for a malformed one."""
    try:
        return path_of(SCHEME + uri.removeprefix(SKILL_SCHEME))
    except OSError as error:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: {error.strerror}") from error


async def list_skills(door: TreeSession, params: PaginatedRequestParams | None) -> dict[str, Any]:
    """Handle `skills/list`: name, description and files of each skill, in pages."""
    page, following = page_of(await _known(door), params.cursor if params else None)
    found = []
    for skill in page:
        try:
            found.append(_entry(await door.call("skill", path=skill["path"])))
        except OSError:
            continue  # deleted, or grown too large, since the listing
    return {"skills": found, **_next(following), **_CACHING}


async def get_skill(door: TreeSession, params: OneParams) -> dict[str, Any]:
    """Handle `skills/get` for one skill. Raises MCPError -32602 if the address is no skill."""
    place = skill_path(params.uri)
    if place.name != _MANIFEST:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(params.uri)}: name the SKILL.md of a skill")
    return {"skill": _entry(await _skill(door, place.parent, params.uri)), **_CACHING}


async def read_directory(door: TreeSession, params: OneParams) -> dict[str, Any]:
    """Handle `resources/directory/read`: list a directory of the tree, or of a skill."""
    is_skill = params.uri.startswith(SKILL_SCHEME)
    try:
        place = skill_path(params.uri.rstrip("/")) if is_skill else path_of(params.uri)
        entry = await stat(door, place)
    except OSError as error:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(params.uri)}: {error.strerror}") from error
    if not entry.is_dir:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(params.uri)}: it is not a directory")
    if is_skill:
        await skill_of(door, place, params.uri)
    address = skill_uri if is_skill else uri_of
    known = [
        {
            "uri": address(place / each.name),
            "name": shown(Path((each.name,))),
            "mimeType": _DIRECTORY if each.is_dir else mime_type_of(place / each.name),
        }
        for each in await entries(door, place)
    ]
    page, following = page_of(known, params.cursor)
    return {"resources": page, **_next(following), **_CACHING}


async def skill_resources(door: TreeSession) -> list[Resource]:
    """Return the `SKILL.md` of each skill as a resource."""
    return [
        Resource(
            uri=skill_uri(Path.parse(skill["path"]) / _MANIFEST),
            name=skill["name"],
            description=skill["description"],
            mime_type="text/markdown",
        )
        for skill in await _known(door)
    ]


async def skill_of(door: TreeSession, path: Path, uri: str) -> Mapping[str, Any]:
    """Return the skill that contains a path. Raises MCPError -32602 for a path outside of skills."""
    for depth in range(len(path.parts), 2, -1):
        if path.parts[depth - 2] == "skills":
            return await _skill(door, Path(path.parts[:depth]), uri)
    raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: it is in no skill")


async def _skill(door: TreeSession, place: Path, uri: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = await door.call("skill", path=str(place))
    except (OSError, CommandError) as error:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: {error}") from error
    return found


async def _known(door: TreeSession) -> list[Mapping[str, Any]]:
    try:
        found = await door.call("skills")
    except OSError:
        return []  # no index exists yet
    return [skill for skill in found if not skill["fault"]]


def _entry(skill: Mapping[str, Any]) -> dict[str, Any]:
    place = Path.parse(skill["path"])
    return {
        "uri": skill_uri(place / _MANIFEST),
        "frontmatter": skill["frontmatter"],
        "resources": [
            {"uri": skill_uri(place.join(Path(tuple(file.split("/"))))), "digest": f"sha256:{digest}", "size": size}
            for file, digest, size in skill["files"]
        ],
    }


def _next(cursor: str | None) -> dict[str, str]:
    return {"nextCursor": cursor} if cursor else {}
