"""Bodies of requests, within a limit, and JSON in both directions.

JSON has no bytes: a content is a text if it is UTF-8, otherwise an object {"base64": "…"}. File names that are not UTF-8
hold lone surrogates (`\\udce9`), as Python writes them, so that a name from a response can be sent back.
"""

import base64
import binascii
import errno
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.responses import Response

from ctxfs.model.errors import invalid, path_error

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_RESULT_BYTES = 64 * 1024 * 1024
_BASE64 = "base64"


class TooLarge(Exception):
    """Raised for a request whose body exceeds the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body of a request has at most {limit} bytes")


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the body of a request. Raise TooLarge as soon as more than `limit` bytes are announced or have arrived."""
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdecimal() and int(announced[:19]) > limit:
        raise TooLarge(limit)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise TooLarge(limit)
    return bytes(body)


async def read_object(request: Request, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """Return the JSON object of a body, an empty one for an empty body. Raise OSError EINVAL for anything else."""
    body = await read_body(request, limit)
    if not body:
        return {}
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise invalid("body", f"this is not JSON: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise invalid("body", "a JSON object is needed")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


def bytes_from_json(name: str, value: object) -> bytes:
    """Return the bytes of a text or of {"base64": "…"}. Raise OSError EINVAL, with the name of the argument."""
    try:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, Mapping) and set(value) == {_BASE64}:
            return base64.b64decode(value[_BASE64], validate=True)
    except (UnicodeEncodeError, binascii.Error, TypeError, ValueError) as error:
        raise invalid(name, f"neither a text nor base64: {error}") from error
    raise invalid(name, 'a text, or {"base64": "…"}, is needed')


def to_json(value: Any) -> Any:
    """Return a result of a method with its bytes as texts or base64. Raise EFBIG for a content that is too long."""
    match value:
        case bytes():
            return _content(value)
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {_key(key): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
        case _:
            return value


def _key(key: object) -> str:
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)


def _content(data: bytes) -> object:
    if len(data) > MAX_RESULT_BYTES:
        raise path_error(errno.EFBIG, "", f"a content of {len(data)} bytes is too long for JSON: get /files/PATH")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {_BASE64: base64.b64encode(data).decode()}


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a value as JSON."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return Response(body, status, headers, media_type="application/json")
