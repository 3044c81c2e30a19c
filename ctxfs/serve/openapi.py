"""The OpenAPI description of the server, made from the declarations of the methods."""

import inspect
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ctxfs import __version__
from ctxfs.daemon.api.methods import METHODS
from ctxfs.daemon.api.registry import Check, Method
from ctxfs.model.path import Path
from ctxfs.serve.methods import LOCAL_ARGUMENTS

_CONTENT = {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/Base64"}]}
_TYPES: Mapping[object, Mapping[str, Any]] = {
    str: {"type": "string"},
    Path: {"type": "string", "description": "A path of the tree, without a leading slash"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bytes: _CONTENT,
    tuple: {"type": "array", "items": {"type": "string"}},
    list: {"type": "array", "items": {}},
    dict: {"type": "object"},
}
_ERROR = {"$ref": "#/components/responses/Error"}
_SCHEMAS: Mapping[str, Any] = {
    "Base64": {
        "type": "object",
        "description": "A content that is not UTF-8",
        "properties": {"base64": {"type": "string", "format": "byte"}},
        "required": ["base64"],
    },
    "Error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("code", "message", "path", "remedy")},
                "required": ["code", "message"],
            }
        },
        "required": ["error"],
    },
}


def describe_server() -> dict[str, Any]:
    """Return the description, in OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ctxfs",
            "version": __version__,
            "description": "A file system of context. A token of `ctxfs token issue` determines the principal.",
        },
        "security": [{"token": []}],
        "paths": {**{f"/api/{name}": {"post": _operation(item)} for name, item in METHODS.items()}, **_file_paths()},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _SCHEMAS,
            "responses": {"Error": {"description": "The request failed", "content": _json(_ref("Error"))}},
        },
    }


def _operation(method: Method[Any, Any]) -> dict[str, Any]:
    summary = inspect.getdoc(method.handler) or f"Call the method {method.name}."
    notes = [inspect.getdoc(method.params) or ""]
    if method.needs is Check.ADMINISTRATORS:
        notes.append("For people, and principals with `admin` for the whole tree.")
    return {
        "operationId": method.name,
        "summary": summary.partition("\n")[0],
        "description": "\n\n".join([summary, *filter(None, notes)]),
        "requestBody": {"content": _json(_arguments(method))},
        "responses": {
            "200": {
                "description": "The result of the method",
                "content": _json({"type": "object", "properties": {"result": {}}, "required": ["result"]}),
            },
            "default": _ERROR,
        },
    }


def _arguments(method: Method[Any, Any]) -> dict[str, Any]:
    hints = get_type_hints(method.params)
    served = [field for field in fields(method.params) if field.name not in LOCAL_ARGUMENTS.get(method.name, ())]
    return {
        "type": "object",
        "properties": {field.name: _schema(hints[field.name]) for field in served},
        "required": [field.name for field in served if _is_required(field)],
        "additionalProperties": False,
    }


def _is_required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _schema(hint: Any) -> Mapping[str, Any]:
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
        return {"anyOf": [_schema(hint), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    return _TYPES[origin]


def _file_paths() -> dict[str, Any]:
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    failures = {"412": _ERROR, "default": _ERROR}
    precondition = [_header("If-Match"), _header("If-None-Match")]
    recursive = {"name": "recursive", "in": "query", "schema": {"type": "boolean"}}
    return {
        "/files/{path}": {
            "parameters": [{"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "get_file",
                "summary": "Return the content of a file.",
                "parameters": [_header("If-None-Match")],
                "responses": {
                    "200": {"description": "The content; its ETag is the revision", "content": content},
                    "304": {"description": "The content is the one of If-None-Match"},
                    "default": _ERROR,
                },
            },
            "put": {
                "operationId": "put_file",
                "summary": "Create or replace a file; missing directories are made.",
                "parameters": precondition,
                "requestBody": {"content": content},
                "responses": {
                    "200": {"description": "The revision, and warnings", "content": _json({"type": "object"})},
                    **failures,
                },
            },
            "delete": {
                "operationId": "delete_file",
                "summary": "Remove a file or an empty directory.",
                "parameters": [*precondition, recursive],
                "responses": {"204": {"description": "It is removed"}, **failures},
            },
        }
    }


def _header(name: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string"}}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
