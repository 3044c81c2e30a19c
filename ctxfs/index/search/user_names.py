"""Names of the users of exports of Slack, for readers of the file that contains them. Pure.

The messages of a day, `<channel>/<date>.json`, have the ids of their authors, and so has the index. The names are in
`users.json` beside the channels. Of a reader that may read that file, a question for a name is also one for the id, and
a passage shows the names. For other readers there are no names: in words, filters and passages alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cached_property

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.engines.word_split import author_terms
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats.slack_users import USERS_NAME
from ctxfs.index.normal_form import fold_name
from ctxfs.index.query import Query, strip_word
from ctxfs.index.search.query_hints import name_forms, names_of_authors

_DAY_NAME = re.compile(r"\d{4}-\d\d-\d\d\.json")
_MENTION = re.compile(r"(?<![\w@])@([UWB][A-Z0-9]{1,20})(?!\w)")
_MAX_IDS = 50  # of one word of a query


def users_path_of(path: str) -> str:
    """Return the path of the list of users that a day of an export may have; empty for another file."""
    parts = path.split("/")
    is_day = len(parts) > 2 and _DAY_NAME.fullmatch(parts[-1]) is not None
    return "/".join((*parts[:-2], USERS_NAME)) if is_day else ""


class UserNames:
    """The names of users by id, in the list of users at each path. Immutable."""

    def __init__(self, lists: Mapping[str, Mapping[str, str]]) -> None:
        self._lists = lists

    def __bool__(self) -> bool:
        return bool(self._lists)

    def among(self, paths: AbstractSet[str]) -> UserNames:
        """Return the names of those lists that are at one of `paths`."""
        visible = {path: users for path, users in self._lists.items() if path in paths}
        return self if len(visible) == len(self._lists) else UserNames(visible)

    @cached_property
    def _ids_by_term(self) -> dict[str, list[str]]:
        """The ids by the terms of their names, in the normal form."""
        ids: dict[str, list[str]] = {}
        for user, name in self._pairs():
            for term in author_terms(name):
                ids.setdefault(term, []).append(user)
        return ids

    @cached_property
    def _ids_by_name(self) -> dict[str, list[str]]:
        ids: dict[str, list[str]] = {}
        for user, name in self._pairs():
            for form in name_forms(name):
                ids.setdefault(form, []).append(user)
        return ids

    def map_names(self, authors: Sequence[str]) -> dict[str, list[str]]:
        """Return a map from first names and whole names to the authors and ids that they may name (`names_of_authors`)."""
        names = names_of_authors(authors)
        for name, ids in self._ids_by_name.items():
            names[name] = [*names.get(name, ()), *ids]
        return names

    def _pairs(self) -> Iterable[tuple[str, str]]:
        """Return the distinct (id, name)."""
        return dict.fromkeys(pair for users in self._lists.values() for pair in users.items())

    def _find_ids(self, name: str) -> Sequence[str]:
        return self._ids_by_term.get(fold_name(name), ())[:_MAX_IDS]

    def add_authors(self, query: Query) -> Query:
        """Return a query whose filters by author also pass the ids of the named users."""
        ids = [user for name in query.authors for user in self._find_ids(name)] if self._lists else []
        return replace(query, authors=tuple(dict.fromkeys((*query.authors, *ids)))) if ids else query

    def add_aliases(self, query: Query) -> Query:
        """Return a query whose words are also looked for as the ids of users with such a name."""
        if not self._lists:
            return query
        aliases = {word: tuple(ids) for word in query.words if (ids := self._find_ids(strip_word(word)))}
        return replace(query, aliases=tuple(aliases.items())) if aliases else query

    def name_row(self, row: ChunkRow) -> ChunkRow:
        """Return a row with the names in its text and its author; its `named_by` is the list that has them."""
        path = users_path_of(row.path)
        if not (users := self._lists.get(path)):
            return row
        text, author = _name_text(row.text, row.author, users)
        return (
            row if (text, author) == (row.text, row.author) else row._replace(text=text, author=author, named_by=path)
        )

    def name_chunks(self, path: str, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return the chunks of the file at a path as `name_row` shows them."""
        if not (users := self._lists.get(users_path_of(path))):
            return list(chunks)
        named = (_name_text(chunk.text, chunk.author, users) for chunk in chunks)
        return [replace(chunk, text=text, author=author) for chunk, (text, author) in zip(chunks, named, strict=True)]


def _name_text(text: str, author: str, users: Mapping[str, str]) -> tuple[str, str]:
    """Return (text, author) of a message with names for ids: of the author, with whom it begins, and in mentions."""
    if not author:  # no message: lines of the file as they are
        return text, author
    name = users.get(author, author)
    rest = text.removeprefix(f"{author}: ")
    named = _MENTION.sub(lambda match: f"@{users.get(match[1], match[1])}", rest)
    return (f"{name}: {named}" if len(rest) < len(text) else named), name


class UserLists:
    """The parsed lists of users, by path; a list is parsed again after it changes. One thread at a time uses it."""

    def __init__(self) -> None:
        self._parsed: dict[str, tuple[str, Mapping[str, str]]] = {}

    def read(self, values: Iterable[tuple[str, str]]) -> UserNames:
        """Return the names of these (path, JSON) of lists; the others are dropped."""
        self._parsed = dict(self._parse(values))
        return UserNames({path: users for path, (_, users) in self._parsed.items()})

    def _parse(self, values: Iterable[tuple[str, str]]) -> Iterator[tuple[str, tuple[str, Mapping[str, str]]]]:
        for path, value in values:
            parsed = self._parsed.get(path)
            yield path, parsed if parsed is not None and parsed[0] == value else (value, json.loads(value))
