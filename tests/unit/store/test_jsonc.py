"""JSON with comments is edited as text: the edit is exact, and everything else stays."""

import json
import random
from typing import Any

import pytest

from ctxfs.store.jsonc import JsonError, Node, insert_item, parse_json, remove_item

BLANKS = ("", " ", "\n", "\n  ", "\t", " /* , ] } */ ", ' // " , {\n', "\r\n")


def random_value(chance: random.Random, depth: int = 3) -> Any:
    if depth and chance.random() < 0.5:
        count = chance.randrange(4)
        if chance.random() < 0.5:
            return [random_value(chance, depth - 1) for _ in range(count)]
        return {f"k{number}": random_value(chance, depth - 1) for number in range(count)}
    return chance.choice((None, True, 1.5, -3, "", "a // b", 'q " , }', "/* no */", "é\u2028", "\\"))


def random_text(chance: random.Random, value: Any) -> str:
    """Return a value as JSON with random white space, comments and trailing commas."""
    blank = lambda: chance.choice(BLANKS)  # noqa: E731 - as short as its use
    if not isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=chance.random() < 0.5)
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}{blank()}:{blank()}{random_text(chance, item)}" for name, item in value.items()]
    else:
        parts = [random_text(chance, item) for item in value]
    inner = ",".join(f"{blank()}{part}{blank()}" for part in parts)
    comma = "," if parts and chance.random() < 0.3 else ""
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}{inner}{comma}{blank()}{closing}"


def containers(node: Node) -> list[Node]:
    inner = [other for item in node.items for other in containers(item)]
    return inner if node.kind == "scalar" else [node, *inner]


def comments(text: str) -> int:
    return text.count("/* , ] } */") + text.count('// " , {')


@pytest.mark.parametrize("seed", range(300))
def test_item_is_inserted_and_removed_in_any_layout(seed: int) -> None:
    chance = random.Random(seed)
    value = {"a": random_value(chance), "b": random_value(chance)}
    text = chance.choice(BLANKS) + random_text(chance, value) + chance.choice(BLANKS)
    root = parse_json(text)
    assert root.plain == value
    for index in range(len(containers(root))):
        node = containers(parse_json(text))[index]
        added = insert_item(text, node, {"new": [1, "x"]}, "added")
        after = containers(parse_json(added))[index]
        expected = (
            {**node.plain, "added": {"new": [1, "x"]}} if node.kind == "object" else [*node.plain, {"new": [1, "x"]}]
        )
        assert after.plain == expected
        assert comments(added) == comments(text)
        removed = remove_item(added, after, len(after.items) - 1)
        assert parse_json(removed).plain == value
        assert comments(removed) == comments(text)
        for position in range(len(node.items)):
            shorter = remove_item(text, node, position)
            plain = containers(parse_json(shorter))[index].plain
            rest = [item.plain for number, item in enumerate(node.items) if number != position]
            assert (list(plain.values()) if isinstance(plain, dict) else plain) == rest


@pytest.mark.parametrize(
    "text",
    ["", "{", "}", '{"a"}', '{"a":}', "[1,,2]", "[,]", "{,}", "[1 2]", "nul", "{} x", "'a'", "/*", '"\n"', "[" * 200],
)
def test_damaged_text_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(JsonError, match="line 1"):
        parse_json(text)


def test_member_that_is_there_twice_is_refused() -> None:
    with pytest.raises(JsonError, match="twice"):
        parse_json('{"a": 1, "a": 2}').member("a")
