"""Test the grammar of the tools' arguments: other names, other forms of values, conflicts, unknown names."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.mcp_server.arguments import ArgumentError, normalize, suggest_tool
from ctxfs.mcp_server.server import own_tools

TOOLS = {entry.name: entry.input_schema for entry in own_tools()}
EDIT = [{"old": "a", "new": "b"}]


@pytest.mark.parametrize(
    ("tool", "given", "understood"),
    [
        ("ctx_read", {"file_path": "a.md"}, {"path": "a.md"}),
        ("ctx_read", {"filePath": "a.md", "max-tokens": "500"}, {"path": "a.md", "max_tokens": 500}),
        ("ctx_read", {"paths": '["a.md", "b.md"]'}, {"path": ["a.md", "b.md"]}),
        ("ctx_read", {"path": "a.md", "start_line": "3", "limit": 2.0}, {"path": "a.md", "offset": 3, "limit": 2}),
        ("ctx_read", {"path": "a.md", "tail": None}, {"path": "a.md"}),
        ("ctx_read", {"path": "[draft].md"}, {"path": "[draft].md"}),
        ("ctx_list", {"directory": "memory", "detail": "true"}, {"path": "memory", "detail": True}),
        ("ctx_search", {"pattern": "x.*y", "kind": "grep"}, {"query": "x.*y", "mode": "grep"}),
        ("ctx_search", {"question": "why", "top_k": "5", "path": "memory"}, {"query": "why", "limit": 5, "below": "memory"}),
        ("ctx_search", {"query": "q", "mode": "Exact", "cursor": 20}, {"query": "q", "mode": "exact", "cursor": "20"}),
        ("ctx_context", {"task": "t", "max_tokens": "900"}, {"query": "t", "budget": 900}),
        ("ctx_context", {"query": ["a", "b"], "options": '{"fresh": true}'}, {"query": ["a", "b"], "options": {"fresh": True}}),
        ("ctx_write", {"file_path": "a", "file_text": "42", "mode": "append"}, {"path": "a", "content": "42", "mode": "append"}),
        ("ctx_edit", {"path": "a", "old_string": "a", "new_string": "b"}, {"path": "a", "edits": EDIT}),
        ("ctx_edit", {"path": "a", "old_str": "a", "new_str": "b"}, {"path": "a", "edits": EDIT}),
        ("ctx_edit", {"path": "a", "edits": {"old_str": "a", "new_str": "b"}}, {"path": "a", "edits": EDIT}),
        ("ctx_edit", {"path": "a", "edits": json.dumps(EDIT)}, {"path": "a", "edits": EDIT}),
        ("ctx_edit", {"path": "a", "edits": json.dumps(EDIT[0])}, {"path": "a", "edits": EDIT}),
        (
            "ctx_edit",
            {"path": "a", "edits": [{"old_string": "a", "new_string": "b", "replace_all": "true"}], "dry_run": "false"},
            {"path": "a", "edits": [{"old": "a", "new": "b", "all": True}], "dry_run": False},
        ),
        ("ctx_move", {"source": "a", "destination": "b", "overwrite": "yes"}, {"path": "a", "to": "b", "replace": True}),
        ("ctx_move", {"old_path": "a", "new_path": "b"}, {"path": "a", "to": "b"}),
        ("ctx_exec", {"name": "git", "args": '{"command": "log"}'}, {"tool": "git", "arguments": {"command": "log"}}),
        ("ctx_history", {"command": "show", "file_path": "a", "revision": "1h-ago"}, {"mode": "show", "path": "a", "at": "1h-ago"}),
        ("ctx_record", {"content": "said", "type": "note"}, {"text": "said", "kind": "note"}),
        ("memory", {"command": "view", "view_range": "1, 20"}, {"command": "view", "view_range": [1, 20]}),
        ("memory", {"command": "x", "old_string": "a", "new_string": "b"}, {"command": "x", "old_str": "a", "new_str": "b"}),
        ("ctx_search", {"query": "a", "q": "a"}, {"query": "a"}),
    ],
)  # fmt: skip
def test_names_and_forms_that_models_use_are_understood(
    tool: str, given: dict[str, Any], understood: dict[str, Any]
) -> None:
    assert normalize(TOOLS[tool], given) == understood


@pytest.mark.parametrize(
    ("tool", "given", "error"),
    [
        ("ctx_search", {"qurey": "x"}, "unknown argument 'qurey': did you mean 'query'[?] Arguments: query, mode"),
        ("ctx_search", {"query": "x", "colour": "red"}, "unknown argument 'colour'. Arguments: query, mode, below"),
        (
            "ctx_read",
            {"path": "a", "file_path": "b"},
            "'path' and 'file_path' are one argument, 'path', with two values",
        ),
        ("ctx_read", {"file_path": "a", "uri": "b"}, "'file_path' and 'uri' are one argument"),
        ("ctx_edit", {"path": "a", "edits": [{"old": "a", "nwe": "b"}]}, "unknown argument 'nwe': did you mean 'new'"),
        ("ctx_edit", {"path": "a", "edits": EDIT, "old_string": "x"}, "unknown argument 'old_string'"),
        ("ctx_list", {"x" * 10_000: 1}, "unknown argument 'xxx"),
    ],
)
def test_wrong_argument_is_named_with_the_accepted_ones(tool: str, given: dict[str, Any], error: str) -> None:
    with pytest.raises(ArgumentError, match=error) as raised:
        normalize(TOOLS[tool], given)
    assert len(str(raised.value)) < 400


def test_unknown_tool_is_answered_with_the_nearest_or_with_all() -> None:
    assert suggest_tool("ctx_serach", list(TOOLS)) == "did you mean 'ctx_search'?"
    assert suggest_tool("Read", list(TOOLS)) == "did you mean 'ctx_read'?"
    assert suggest_tool("frobnicate", ["ctx_a", "memory"]) == "Tools: ctx_a, memory"


TEXTS = st.text("aZ0_-,:. [{}]\"'é漢\x00\ud800", max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from("path file_path query edits old_str mode limit options".split()) | TEXTS


@settings(deadline=None)  # a loaded machine
@given(st.sampled_from(sorted(TOOLS)), st.dictionaries(NAMES, PLAIN, max_size=4))
def test_any_arguments_are_understood_once_or_refused(tool: str, given: dict[str, Any]) -> None:
    try:
        understood = normalize(TOOLS[tool], given)
    except ArgumentError:
        return
    assert set(understood) <= set(TOOLS[tool]["properties"])
    assert normalize(TOOLS[tool], understood) == understood
