"""Definitions in source code: functions and classes by the tree-sitter grammar of their language, Python by `ast`.

The only module that imports tree-sitter.
"""

import ast
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import tree_sitter

# suffix → (module of the grammar, its function that returns the language)
_GRAMMARS = {
    **dict.fromkeys(("js", "jsx", "mjs", "cjs"), ("tree_sitter_javascript", "language")),
    **dict.fromkeys(("ts", "mts", "cts"), ("tree_sitter_typescript", "language_typescript")),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rs": ("tree_sitter_rust", "language"),
    "java": ("tree_sitter_java", "language"),
    **dict.fromkeys(("c", "h"), ("tree_sitter_c", "language")),
    **dict.fromkeys(("cc", "cpp", "cxx", "hh", "hpp", "hxx"), ("tree_sitter_cpp", "language")),
    "cs": ("tree_sitter_c_sharp", "language"),
    "rb": ("tree_sitter_ruby", "language"),
    "php": ("tree_sitter_php", "language_php"),
    **dict.fromkeys(("sh", "bash"), ("tree_sitter_bash", "language")),
}
# Node types of all these grammars. A type has the same meaning in each grammar that contains it.
_FUNCTION_TYPES = frozenset(
    "function_declaration function_definition generator_function_declaration function_item function_signature "
    "function_signature_item method_definition method_declaration method_signature abstract_method_signature "
    "constructor_declaration destructor_declaration operator_declaration compact_constructor_declaration method "
    "singleton_method macro_definition type_declaration type_alias_declaration type_item const_item static_item".split()
)
_CONTAINER_TYPES = frozenset(
    "class_declaration abstract_class_declaration class_specifier class struct_specifier struct_declaration struct_item "
    "union_specifier enum_declaration enum_specifier enum_item interface_declaration trait_declaration trait_item impl_item "
    "mod_item module namespace_definition namespace_declaration file_scoped_namespace_declaration internal_module "
    "record_declaration annotation_type_declaration".split()
)
# Nodes that enclose a definition and have no name of their own.
_WRAPPER_TYPES = frozenset(
    "export_statement expression_statement template_declaration linkage_specification declaration_list ambient_declaration "
    "preproc_ifdef preproc_if preproc_else".split()
)
_COMMENT_TYPES = frozenset(
    "comment line_comment block_comment doc_comment attribute_item attribute_list decorator annotation marker_annotation".split()
)
_BODY_TYPES = frozenset(
    "class_body declaration_list field_declaration_list body_statement interface_body enum_body enum_variant_list "
    "statement_block object_type enum_body_declarations".split()
)
_DECLARATION_TYPES = frozenset(("lexical_declaration", "variable_declaration"))
_VALUE_TYPES = frozenset(("arrow_function", "function_expression", "function", "class"))
_MAX_DEPTH = 40


@dataclass(frozen=True, slots=True)
class Definition:
    """Lines `start` to `end` (from 0, `end` excluded) that define `name`. `members` lie within them."""

    name: str
    start: int
    end: int
    members: tuple["Definition", ...] = ()
    is_container: bool = False


def find_definitions(suffix: str, text: str) -> tuple[Definition, ...] | None:
    """Return the definitions of a file in order. Their lines include the comments above them.

    Return None for a language without a grammar here, and for Python that does not parse.
    """
    if suffix in ("py", "pyi"):
        try:
            return _with_comments(_find_python_definitions(ast.parse(text).body), text.split("\n"), 0)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    parser = _load_parser(suffix)
    if parser is None:
        return None
    tree = parser.parse(text.encode("utf-8", "replace"))
    return tuple(_find_child_definitions(tree.root_node, 0))


def _find_python_definitions(body: list[ast.stmt]) -> tuple[Definition, ...]:
    definitions = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)]) - 1
            is_class = isinstance(node, ast.ClassDef)
            members = _find_python_definitions(node.body) if is_class else ()
            definitions.append(Definition(node.name, first, node.end_lineno or node.lineno, members, is_class))
    return tuple(definitions)


def _with_comments(definitions: Sequence[Definition], lines: Sequence[str], start: int) -> tuple[Definition, ...]:
    """Return definitions from line `start`, each with the comments above it that have its indentation."""
    commented = []
    for definition in definitions:
        first = min(definition.start, len(lines) - 1)  # the parser also ends lines at a lone carriage return
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())] + "#"
        while first > start and (lines[first - 1].startswith(indent) or _is_gap(lines, first, start, indent)):
            first -= 1
        members = _with_comments(definition.members, lines, definition.start + 1)
        commented.append(replace(definition, start=first, members=members))
        start = definition.end
    return tuple(commented)


def _is_gap(lines: Sequence[str], line: int, start: int, indent: str) -> bool:
    """Return True if the line above is blank, and the one above that is a comment."""
    return line - 2 >= start and not lines[line - 1].strip() and lines[line - 2].startswith(indent)


@cache
def _load_parser(suffix: str) -> Any:
    if suffix not in _GRAMMARS:
        return None
    module, function = _GRAMMARS[suffix]
    language = tree_sitter.Language(getattr(importlib.import_module(module), function)())
    return tree_sitter.Parser(language)


def _find_leading_comments(node: Any, body: Any) -> list[Any]:
    """Return the comments that some grammars place before the body node, although they lie within the body."""
    first_line = node.start_point[0]
    comments = [child for child in node.named_children if child.type in _COMMENT_TYPES]
    return [child for child in comments if child.start_point[0] > first_line and child.end_byte <= body.start_byte]


def _find_child_definitions(parent: Any, depth: int, leading_comments: Sequence[Any] = ()) -> Iterator[Definition]:
    """Yield the definitions among `leading_comments` and the children of a node."""
    comment_start: int | None = None  # first line of the comments that belong to the next node
    comment_end = -1
    for node in (*leading_comments, *parent.named_children):
        if node.type in _COMMENT_TYPES:
            if comment_start is None or node.start_point[0] > comment_end + 1:
                comment_start = node.start_point[0]
            comment_end = node.end_point[0]
            continue
        start = node.start_point[0]
        start_with_comments = comment_start if comment_start is not None and start <= comment_end + 1 else start
        comment_start = None
        yield from _find_node_definitions(node, start_with_comments, depth)


def _find_node_definitions(node: Any, start: int, depth: int) -> Iterator[Definition]:
    end = node.end_point[0] + (node.end_point[1] > 0)
    if node.type in _FUNCTION_TYPES:
        yield Definition(_find_name(node), start, end)
    elif node.type in _CONTAINER_TYPES:
        body = _find_body(node)
        if body is not None:
            members = (
                tuple(_find_child_definitions(body, depth + 1, _find_leading_comments(node, body)))
                if depth < _MAX_DEPTH
                else ()
            )
            yield Definition(_find_name(node), start, end, members, is_container=True)
    elif node.type in _DECLARATION_TYPES and (name := _find_assigned_name(node)):
        yield Definition(name, start, end)
    elif node.type in _WRAPPER_TYPES and depth < _MAX_DEPTH:
        definitions = list(_find_child_definitions(node, depth + 1))
        if len(definitions) == 1:
            definition = definitions[0]
            yield Definition(
                definition.name, start, max(end, definition.end), definition.members, definition.is_container
            )
        else:
            yield from definitions


def _find_body(node: Any) -> Any:
    body = node.child_by_field_name("body")
    return (
        body if body is not None else next((child for child in node.named_children if child.type in _BODY_TYPES), None)
    )


def _find_assigned_name(node: Any) -> str:
    """Return the name of a variable that is declared with a function or class as its value: `const f = () => …`."""
    for child in node.named_children:
        value = child.child_by_field_name("value") if child.type == "variable_declarator" else None
        if value is not None and value.type in _VALUE_TYPES:
            return _find_name(child)
    return ""


def _find_name(node: Any) -> str:
    """Return the name of a definition, at most 120 characters; empty if it has none.

    In C the name is the innermost declarator. In Rust an `impl` has the name of its type. In Go a type declaration has
    the name of its first specification.
    """
    name = node.child_by_field_name("name")
    if name is None and node.type == "impl_item":
        name = node.child_by_field_name("type")
    if name is None and node.type == "type_declaration":
        name = next((child.child_by_field_name("name") for child in node.named_children), None)
    declarator = node.child_by_field_name("declarator")
    for _ in range(_MAX_DEPTH):
        if name is not None or declarator is None:
            break
        inner = declarator.child_by_field_name("declarator")
        if inner is None:
            name = declarator
        declarator = inner
    return name.text.decode("utf-8", "replace")[:120] if name is not None and name.text else ""
