"""Views over MCP (MCP Apps, SEP-1865): HTML documents at `ui://` addresses that clients show beside the results of a tool.

Only clients that declare the extension get its fields; all others get the same lists and results as without it.
"""

import base64
import functools
import hashlib
from importlib.resources import files
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.types import Resource, TextResourceContents

EXTENSION = "io.modelcontextprotocol/ui"
MIME_TYPE = "text/html;profile=mcp-app"
CONTEXT_VIEW = "ui://ctxfs/context.html"
_FOLDER = "views"
_NAME = "context"
_META = {"ui": {"prefersBorder": True, "csp": {}}}  # no origin of another host is needed


def has_apps(context: ServerRequestContext[Any, Any]) -> bool:
    """Return True if the client declares the extension with HTML documents."""
    capabilities = context.session.client_capabilities
    settings = (capabilities.extensions or {}).get(EXTENSION) if capabilities else None
    kinds = settings.get("mimeTypes") if isinstance(settings, dict) else None
    return isinstance(kinds, list) and MIME_TYPE in kinds


def view_resource() -> Resource:
    """Return the view of contexts as an entry of `resources/list`."""
    return Resource(
        uri=CONTEXT_VIEW,
        name="context-view",
        title="Budget of a context",
        description="Contents of a context, and the passages that were left out, with reasons",
        mime_type=MIME_TYPE,
        _meta=_META,
    )


def read_view(uri: str) -> TextResourceContents | None:
    """Return the document of a view; None for another address."""
    if uri != CONTEXT_VIEW:
        return None
    return TextResourceContents(uri=uri, mime_type=MIME_TYPE, text=context_document(), _meta=_META)


@functools.cache
def context_document() -> str:
    """Return the view of contexts with its style and its script, whose hashes are the only ones that its CSP permits."""
    folder = files(__package__) / _FOLDER
    page, style, script = ((folder / f"{_NAME}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    policy = f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    return page.replace("{{policy}}", policy).replace("{{style}}", style).replace("{{script}}", script)


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
