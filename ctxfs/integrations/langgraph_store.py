"""A LangGraph store over the tree: items are JSON files below a directory, versions like every other file.

`StateGraph(…).compile(store=ContextStore(ctxfs.open(principal="agent:x")))`. A namespace is a directory, a key is a file
`<key>.json`; `search` with a query ranks by words and meaning.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from ctxfs.integrations.tree_files import decode_name, encode_name, files_below
from ctxfs.library.store import Store
from ctxfs.model.errors import invalid

_SUFFIX = ".json"
_MAX_FOUND = 1000
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, other: value == other,
    "$ne": lambda value, other: value != other,
    "$gt": lambda value, other: float(value) > float(other),
    "$gte": lambda value, other: float(value) >= float(other),
    "$lt": lambda value, other: float(value) < float(other),
    "$lte": lambda value, other: float(value) <= float(other),
}


class ContextStore(BaseStore):  # type: ignore[misc]  # not installed where types are checked
    """Items below `root`, a directory that the principal of the store may write; its own `memory/<name>/items` by default.

    A key or a part of a namespace may hold any characters: those that no file name may hold are percent-encoded.
    """

    supports_ttl = False

    def __init__(self, store: Store, root: str = "") -> None:
        self._store = store
        self._root = root or store.memory.folder("items")

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations one after the other."""
        return [self._run(op) for op in ops]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations in a worker thread."""
        pending = list(ops)
        return await anyio.to_thread.run_sync(lambda: self.batch(pending))

    def _run(self, op: Op) -> Result:
        match op:
            case GetOp():
                return self._read_item(self._path(op.namespace, op.key))
            case PutOp():
                return self._put(op)
            case SearchOp():
                return list(self._search(op))
            case ListNamespacesOp():
                return self._list_namespaces(op)
        raise invalid("op", f"this operation is not known: {type(op).__name__}")

    def _directory(self, namespace: Sequence[str]) -> str:
        return "/".join((self._root, *(encode_name(part) for part in namespace)))

    def _path(self, namespace: Sequence[str], key: str) -> str:
        return f"{self._directory(namespace)}/{encode_name(key)}{_SUFFIX}"

    def _put(self, op: PutOp) -> None:
        path = self._path(op.namespace, op.key)
        if op.value is None:
            if self._store.exists(path):
                self._store.remove(path)
            return
        now = datetime.now(UTC)
        before = self._read_item(path)
        record = {
            "created_at": (before.created_at if before else now).isoformat(),
            "updated_at": now.isoformat(),
            "value": op.value,
        }
        self._store.write(path, json.dumps(record, ensure_ascii=False, indent=1) + "\n")

    def _read_item(self, path: str) -> Item | None:
        """Return an item; None if there is none, or if the file is no item."""
        try:
            record = json.loads(self._store.read(path))
            return Item(
                value=dict(record["value"]),
                key=decode_name(path.rpartition("/")[2].removesuffix(_SUFFIX)),
                namespace=self._namespace_of(path),
                created_at=datetime.fromisoformat(record["created_at"]),
                updated_at=datetime.fromisoformat(record["updated_at"]),
            )
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def _namespace_of(self, path: str) -> tuple[str, ...]:
        return tuple(decode_name(part) for part in path[len(self._root) + 1 :].split("/")[:-1])

    def _search(self, op: SearchOp) -> Iterator[SearchItem]:
        directory = self._directory(op.namespace_prefix)
        scores = (
            self._ranked(op.query, directory)
            if op.query
            else dict.fromkeys(files_below(self._store, directory, _SUFFIX))
        )
        items = [(item, score) for path, score in scores.items() if (item := self._read_item(path))]
        if not op.query:
            items.sort(key=lambda found: found[0].updated_at, reverse=True)
        matching = [found for found in items if _matches(found[0].value, op.filter or {})]
        for item, score in matching[op.offset : op.offset + op.limit]:
            yield SearchItem(item.namespace, item.key, item.value, item.created_at, item.updated_at, score)

    def _ranked(self, query: str, directory: str) -> dict[str, float | None]:
        """Return the files of the hits of a query with their scores, the best first."""
        if not self._store.exists(directory):
            return {}
        scores: dict[str, float | None] = {}
        for hit in self._store.search(query, below=directory, limit=_MAX_FOUND):
            if hit.path.endswith(_SUFFIX):
                scores.setdefault(hit.path, hit.score if hit.probability is None else hit.probability)
        return scores

    def _list_namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        existing = {self._namespace_of(path) for path in files_below(self._store, self._root, _SUFFIX)}
        matching = {
            namespace[: op.max_depth]
            for namespace in existing
            if all(_fits(condition, namespace) for condition in op.match_conditions or ())
        }
        return sorted(matching)[op.offset : op.offset + op.limit]


def _fits(condition: MatchCondition, namespace: tuple[str, ...]) -> bool:
    parts = tuple(condition.path)
    if len(parts) > len(namespace):
        return False
    compared = namespace[: len(parts)] if condition.match_type == "prefix" else namespace[len(namespace) - len(parts) :]
    return all(part in ("*", name) for part, name in zip(parts, compared, strict=True))


def _matches(value: Any, expected: Any) -> bool:
    """Return True if a value has the expected members; `{"$gt": 3}` and its like compare. ValueError for others."""
    if not isinstance(expected, Mapping):
        return bool(value == expected)
    if any(str(name).startswith("$") for name in expected):
        return all(_compare(value, str(name), other) for name, other in expected.items())
    return all(isinstance(value, Mapping) and _matches(value.get(name), other) for name, other in expected.items())


def _compare(value: Any, operator: str, other: Any) -> bool:
    if operator not in _OPERATORS:
        raise ValueError(f"unknown operator {operator}: {', '.join(_OPERATORS)}")
    try:
        return _OPERATORS[operator](value, other)
    except (TypeError, ValueError):  # the item has no such number
        return False
