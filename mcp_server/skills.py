"""Skills over MCP (SEP-2640): `skills/list`, `skills/get`, `resources/directory/read`, `skill://` resources.

`skill://<path>` is the file `<path>` of the tree, if it belongs to a skill.
"""

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, PaginatedRequestParams, RequestParams, Resource

from ctxfs.mcp_server.pagination import page_of
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.tree_ops import entries, stat
from ctxfs.mcp_server.uris import SCHEME, mime_type_of, path_of, printable_path, printable_uri, uri_of
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path

EXTENSION = "io.modelcontextprotocol/skills"
SETTINGS: Mapping[str, Any] = {"directoryRead": True}
SKILL_SCHEME = "skill://"
_SKILL_FILE = "SKILL.md"
_DIRECTORY = "inode/directory"
_CACHE_FIELDS = {"ttlMs": 0, "cacheScope": "private"}  # lists depend on the principal and may change at any time


class AddressParams(RequestParams):
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


async def list_skills(tree: TreeSession, params: PaginatedRequestParams | None) -> dict[str, Any]:
    """Handle `skills/list`: name, description and files of each skill, in pages."""
    page, following = page_of(await _valid_skills(tree), params.cursor if params else None)
    skills = []
    for skill in page:
        try:
            skills.append(_describe_skill(await tree.call("skill", path=skill["path"])))
        except OSError:
            continue  # deleted, or grown too large, since the listing
    return {"skills": skills, **_cursor_field(following), **_CACHE_FIELDS}


async def get_skill(tree: TreeSession, params: AddressParams) -> dict[str, Any]:
    """Handle `skills/get` for one skill. Raises MCPError -32602 if the address is no skill."""
    path = skill_path(params.uri)
    if path.name != _SKILL_FILE:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(params.uri)}: name the SKILL.md of a skill")
    return {"skill": _describe_skill(await _fetch_skill(tree, path.parent, params.uri)), **_CACHE_FIELDS}


async def read_directory(tree: TreeSession, params: AddressParams) -> dict[str, Any]:
    """Handle `resources/directory/read`: list a directory of the tree, or of a skill."""
    is_skill = params.uri.startswith(SKILL_SCHEME)
    try:
        path = skill_path(params.uri.rstrip("/")) if is_skill else path_of(params.uri)
        entry = await stat(tree, path)
    except OSError as error:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(params.uri)}: {error.strerror}") from error
    if not entry.is_dir:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(params.uri)}: it is not a directory")
    if is_skill:
        await skill_of(tree, path, params.uri)
    address = skill_uri if is_skill else uri_of
    listing = [
        {
            "uri": address(path / child.name),
            "name": printable_path(Path((child.name,))),
            "mimeType": _DIRECTORY if child.is_dir else mime_type_of(path / child.name),
        }
        for child in await entries(tree, path)
    ]
    page, following = page_of(listing, params.cursor)
    return {"resources": page, **_cursor_field(following), **_CACHE_FIELDS}


async def skill_resources(tree: TreeSession) -> list[Resource]:
    """Return the `SKILL.md` of each skill as a resource."""
    return [
        Resource(
            uri=skill_uri(Path.parse(skill["path"]) / _SKILL_FILE),
            name=skill["name"],
            description=skill["description"],
            mime_type="text/markdown",
        )
        for skill in await _valid_skills(tree)
    ]


async def skill_of(tree: TreeSession, path: Path, uri: str) -> Mapping[str, Any]:
    """Return the skill that contains a path. Raises MCPError -32602 for a path outside of skills."""
    for depth in range(len(path.parts), 2, -1):
        if path.parts[depth - 2] == "skills":
            return await _fetch_skill(tree, Path(path.parts[:depth]), uri)
    raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: it is in no skill")


async def _fetch_skill(tree: TreeSession, path: Path, uri: str) -> Mapping[str, Any]:
    try:
        skill: Mapping[str, Any] = await tree.call("skill", path=str(path))
    except (OSError, CommandError) as error:
        raise MCPError(INVALID_PARAMS, f"{printable_uri(uri)}: {error}") from error
    return skill


async def _valid_skills(tree: TreeSession) -> list[Mapping[str, Any]]:
    try:
        skills = await tree.call("skills")
    except OSError:
        return []  # no index exists yet
    return [skill for skill in skills if not skill["fault"]]


def _describe_skill(skill: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path.parse(skill["path"])
    return {
        "uri": skill_uri(folder / _SKILL_FILE),
        "frontmatter": skill["frontmatter"],
        "resources": [
            {"uri": skill_uri(folder.join(Path(tuple(file.split("/"))))), "digest": f"sha256:{digest}", "size": size}
            for file, digest, size in skill["files"]
        ],
    }


def _cursor_field(cursor: str | None) -> dict[str, str]:
    return {"nextCursor": cursor} if cursor else {}
