"""`/files/PATH`: contents as they are, with entity tags and preconditions (RFC 9110).

The entity tag of a content is its revision, the sha256. A write with `If-Match` or `If-None-Match: *` fails with 412
if another writer was first.
"""

import errno
import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response

from ctxfs.http.bodies import json_response, read_body
from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.model.change import ABSENT
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path
from ctxfs.serve.endpoints import Failure

PREFIX = "/files/"
METHODS = ("GET", "HEAD", "PUT", "DELETE")
_REVISION = re.compile(r'\A"([0-9a-f]{8,64})"\Z')


async def serve_file(tree: Tree, request: Request) -> Response:
    """Answer a request for a file."""
    return await _HANDLERS[request.method](tree, request, tree_path(request, PREFIX))


def tree_path(request: Request, prefix: str) -> str:
    """Return the path of the tree in that of a request, byte for byte. Raise OSError EINVAL or ENAMETOOLONG."""
    raw: bytes = request.scope["raw_path"]
    encoded = raw.partition(b"?")[0].removeprefix(prefix.encode())
    return str(Path.parse(unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")))


async def _get(tree: Tree, request: Request, path: str) -> Response:
    data = await tree.send(requests.read(path))
    etag = _etag(requests.revision_of(data))
    if etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers={"etag": etag})
    return Response(data, headers={"etag": etag}, media_type="application/octet-stream")


async def _put(tree: Tree, request: Request, path: str) -> Response:
    expects = _precondition(request.headers)
    data = await read_body(request)
    try:
        written = await tree.write(path, data, expects=expects)
    except OSError as error:
        raise _as_precondition(error, expects) from error
    record = {"path": written.path, "revision": written.revision, "warnings": list(written.warnings)}
    return json_response(record, headers={"etag": _etag(written.revision)})


async def _delete(tree: Tree, request: Request, path: str) -> Response:
    expects = _precondition(request.headers)
    try:
        if request.query_params.get("recursive") == "true":
            if expects:
                raise invalid(path, "a precondition is for one file: leave recursive=true out")
            await tree.remove_all(path)
        else:
            await tree.send(requests.remove(path, expects))
    except OSError as error:
        raise _as_precondition(error, expects) from error
    return Response(status_code=204)


def _precondition(headers: Mapping[str, str]) -> str:
    """Return the `expects` of a change. Raise OSError EINVAL for a header that is not understood."""
    if headers.get("if-none-match", "*") != "*":
        raise invalid("If-None-Match", "only * is understood here")
    match = headers.get("if-match")
    if "if-none-match" in headers:
        if match is not None:
            raise invalid("If-Match", "it excludes If-None-Match")
        return ABSENT
    if match is None:
        return ""
    tag = _REVISION.match(match.strip())
    if tag is None:
        raise invalid("If-Match", "the ETag of a response is needed, with its quotation marks")
    return tag[1]


def _as_precondition(error: OSError, expects: str) -> Exception:
    """Return the failure of a precondition as one with 412; other errors as they are."""
    is_precondition = isinstance(error, FileExistsError) or error.errno == errno.ESTALE
    if expects and is_precondition:
        return Failure(412, "ESTALE", error.strerror or str(error), str(error.filename or ""))
    return error


def _etag(revision: str) -> str:
    return f'"{revision}"'


_HANDLERS: Mapping[str, Callable[[Tree, Request, str], Awaitable[Response]]] = {
    "GET": _get,
    "HEAD": _get,
    "PUT": _put,
    "DELETE": _delete,
}
