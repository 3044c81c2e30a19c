"""Reader of `users.json` in an export of Slack: the names of users by their ids."""

from functools import lru_cache
from typing import Any

from ctxfs.index.extract.formats.json_text import parse_json
from ctxfs.index.extract.text_decoding import read_text

_MAX_USERS = 500_000
_MAX_NAME_CHARACTERS = 80


@lru_cache(maxsize=2)
def read_users(data: bytes) -> dict[str, str]:
    """Return the names of the users by id; empty for another file."""
    value = parse_json(read_text(data) or "") if data else None
    users = value if isinstance(value, list) else []
    return {
        user["id"]: name
        for user in users[:_MAX_USERS]
        if isinstance(user, dict) and isinstance(user.get("id"), str) and (name := name_of(user))
    }


def name_of(user: dict[str, Any]) -> str:
    """Return the name of a user or profile: the real name, else the shown one, else that of the account."""
    profile = user.get("profile")
    records = [profile, user] if isinstance(profile, dict) else [user]
    names = (record.get(key) for key in ("real_name", "display_name", "name") for record in records)
    return next((" ".join(name.split()) for name in names if isinstance(name, str) and name.strip()), "")[
        :_MAX_NAME_CHARACTERS
    ]
