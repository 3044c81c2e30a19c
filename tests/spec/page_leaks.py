"""Requests for the page of a browser, about files that the reader may not see."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.live import Live
from tests.web.site import Site, Visitor

_SITES: dict[Path, Site] = {}
_VIEWS = ("content", "metadata", "versions", "blame", "diff", "impact")
_OF_THE_STORE = ("now", "access", "access/policy", "contexts", "memory", "memory/map", "time", "file")
_FORM_TOKEN = re.compile(r'name="form_token" value="[^"]*"')
# The author of a request is that of its newest version, which is there when the change is committed.
_AUTHOR = re.compile(r"<td>(?:(?:agent|human):\w+)?</td>(?=<td class=\"num\">)")
_SHORT_REVISION = re.compile(r"\b[0-9a-f]{8}\b")


def probes(hidden: Iterable[str], questions: Iterable[str], word: str) -> Mapping[str, Callable[[Any], str]]:
    """Return the requests by name; each takes the client of a principal, and returns the status and the content."""
    requests: dict[str, tuple[str, dict[str, str]]] = {screen: (screen, {}) for screen in _OF_THE_STORE}
    for path in hidden:
        parent = path.rpartition("/")[0]
        for view in _VIEWS:
            requests[f"{view} {path}"] = ("file", {"path": path, "view": view})
        requests |= {
            f"above {path}": ("file", {"path": parent}),
            f"then {path}": ("file", {"path": path, "at": "latest"}),
            f"time {path}": ("time", {"path": path}),
            f"time above {path}": ("time", {"path": parent}),
            f"version {path}": ("time/version", {"path": path}),
            f"slider {path}": ("time/file", {"path": path}),
            f"undo {path}": ("time/rollback", {"action": "undo", "path": path}),
            f"restore {path}": ("time/rollback", {"action": "restore", "path": path, "to": "first"}),
            f"explain {path}": ("access/explain", {"principal": "agent:bob", "path": path}),
            f"edit {path}": ("memory/edit", {"path": path}),
            f"correct {path}": ("memory/correct", {"path": path, "line": "1"}),
            f"ask below {path}": ("ask", {"q": word, "below": parent}),
        }
    for question in questions:
        requests[f"ask {question}"] = ("ask", {"q": question})
    for view in ("pieces", "excluded", "text"):
        requests[f"context {view}"] = ("contexts/one", {"task": f"{word}-task", "view": view})
    requests |= {
        "context state": ("contexts/state", {"task": f"{word}-task"}),
        "memory of another": ("memory", {"agent": "bob"}),
        "memory with words": ("memory", {"words": word}),
        "time of areas": ("time", {"path": "memory"}),
        "time of a visible memory": ("time", {"path": "memory/shared/citing/holds.md"}),
        "origin": ("time/rollback", {"action": "origin", "source": word}),
        "snapshot": ("time/version", {"at": "first", "path": "memory/shared/known.md"}),
    }
    return {f"page {name}": _probe(screen, query) for name, (screen, query) in requests.items()}


def _probe(screen: str, query: dict[str, str]) -> Callable[[Any], str]:
    def act(caller: Any) -> str:
        visitor = caller.page
        answer = visitor.get(screen, **query)
        text = _FORM_TOKEN.sub("FORM", answer.text.replace(visitor.prefix, "PAGE"))
        if screen == "contexts":
            text = _AUTHOR.sub("<td>AUTHOR</td>", text)
        return f"{answer.status}\n{_SHORT_REVISION.sub('ID', text)}"

    return act


def visitor_of(live: Live, proof: Mapping[str, str]) -> Visitor:
    """Return a session of the page of a store, by the arguments of `join`."""
    site = _SITES.get(live.store)
    if site is None:
        site = _SITES[live.store] = Site(live)
    names = {"token": "--token", "principal": "--as"}
    return site.visitor(*(word for name, value in proof.items() for word in (names[name], value)))


def close(live: Live) -> None:
    """End the page of a store, if it has one."""
    site = _SITES.pop(live.store, None)
    if site is not None:
        assert "Traceback" not in site.close()
