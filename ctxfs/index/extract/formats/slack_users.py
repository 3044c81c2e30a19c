"""Reader of `users.json` in an export of Slack: the names of users by their ids.

The messages of each day, `<channel>/<date>.json`, refer to users by their ids. The names are an attribute of `users.json`
alone, because a reader of a day may not be allowed to read `users.json` (`search/user_names.py`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats.json_text import parse_json

USERS_NAME = "users.json"
USERS_LABEL = "users"
_MAX_USERS = 50_000
_MAX_NAME_CHARACTERS = 80
_USER_ID = re.compile(r"[UWB][A-Z0-9]{1,20}")


def label_users(chunks: Iterable[Chunk], users: Mapping[str, str]) -> Iterator[Chunk]:
    """Yield the chunks of a list of users; the first one has the names by id as a label."""
    labels = ((USERS_LABEL, json.dumps(users, ensure_ascii=False)),)
    for chunk in chunks:
        yield replace(chunk, labels=(*chunk.labels, *labels))
        labels = ()  # type: ignore[assignment]


def read_users(text: str) -> dict[str, str]:
    """Return the names of the users by id; empty for another file."""
    value = parse_json(text)
    users = value if isinstance(value, list) else []
    return {
        user["id"]: name
        for user in users[:_MAX_USERS]
        if isinstance(user, dict) and _is_id(user.get("id")) and (name := name_of(user))
    }


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _USER_ID.fullmatch(value) is not None


def name_of(user: dict[str, Any]) -> str:
    """Return the name of a user or profile: the real name, else the shown one, else that of the account."""
    profile = user.get("profile")
    records = [profile, user] if isinstance(profile, dict) else [user]
    names = (record.get(key) for key in ("real_name", "display_name", "name") for record in records)
    return next((" ".join(name.split()) for name in names if isinstance(name, str) and name.strip()), "")[
        :_MAX_NAME_CHARACTERS
    ]
