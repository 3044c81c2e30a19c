"""Definitions in source code: functions and classes by the tree-sitter grammar of their language, Python by `ast`.

The only module that imports tree-sitter.
"""

import ast
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
_FUNCTIONS = frozenset(
    "function_declaration function_definition generator_function_declaration function_item function_signature "
    "function_signature_item method_definition method_declaration method_signature abstract_method_signature "
    "constructor_declaration destructor_declaration operator_declaration compact_constructor_declaration method "
    "singleton_method macro_definition type_declaration type_alias_declaration type_item const_item static_item".split()
)
_CONTAINERS = frozenset(
    "class_declaration abstract_class_declaration class_specifier class struct_specifier struct_declaration struct_item "
    "union_specifier enum_declaration enum_specifier enum_item interface_declaration trait_declaration trait_item impl_item "
    "mod_item module namespace_definition namespace_declaration file_scoped_namespace_declaration internal_module "
    "record_declaration annotation_type_declaration".split()
)
# Nodes that enclose a definition and have no name of their own.
_WRAPPERS = frozenset(
    "export_statement expression_statement template_declaration linkage_specification declaration_list ambient_declaration "
    "preproc_ifdef preproc_if preproc_else".split()
)
_BEFORE = frozenset(
    "comment line_comment block_comment doc_comment attribute_item attribute_list decorator annotation marker_annotation".split()
)
_BODIES = frozenset(
    "class_body declaration_list field_declaration_list body_statement interface_body enum_body enum_variant_list "
    "statement_block object_type enum_body_declarations".split()
)
_ASSIGNED = frozenset(("lexical_declaration", "variable_declaration"))
_VALUES = frozenset(("arrow_function", "function_expression", "function", "class"))
_DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Definition:
    """Lines `start` to `end` (from 0, `end` excluded) that define `name`. `members` lie within them."""

    name: str
    start: int
    end: int
    members: tuple["Definition", ...] = ()
    is_container: bool = False


def definitions(suffix: str, text: str) -> tuple[Definition, ...] | None:
    """Return the definitions of a file in order. Their lines include the comments above them.

    Return None for a language without a grammar here, and for Python that does not parse.
    """
    if suffix in ("py", "pyi"):
        try:
            return _python(ast.parse(text).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    parser = _parser(suffix)
    if parser is None:
        return None
    tree = parser.parse(text.encode("utf-8", "replace"))
    return tuple(_inside(tree.root_node, 0))


def _python(body: list[ast.stmt]) -> tuple[Definition, ...]:
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)]) - 1
            is_class = isinstance(node, ast.ClassDef)
            members = _python(node.body) if is_class else ()
            found.append(Definition(node.name, first, node.end_lineno or node.lineno, members, is_class))
    return tuple(found)


@cache
def _parser(suffix: str) -> Any:
    if suffix not in _GRAMMARS:
        return None
    module, function = _GRAMMARS[suffix]
    language = tree_sitter.Language(getattr(importlib.import_module(module), function)())
    return tree_sitter.Parser(language)


def _before(node: Any, body: Any) -> list[Any]:
    """Return the comments that some grammars place before the body node, although they lie within the body."""
    inside = node.start_point[0]
    comments = [child for child in node.named_children if child.type in _BEFORE]
    return [child for child in comments if child.start_point[0] > inside and child.end_byte <= body.start_byte]


def _inside(parent: Any, depth: int, before: Sequence[Any] = ()) -> Iterator[Definition]:
    """Yield the definitions among `before` and the children of a node."""
    above: int | None = None  # first line of the comments that belong to the next node
    end = -1
    for node in (*before, *parent.named_children):
        if node.type in _BEFORE:
            if above is None or node.start_point[0] > end + 1:
                above = node.start_point[0]
            end = node.end_point[0]
            continue
        start = node.start_point[0]
        first = above if above is not None and start <= end + 1 else start
        above = None
        yield from _of(node, first, depth)


def _of(node: Any, first: int, depth: int) -> Iterator[Definition]:
    last = node.end_point[0] + (node.end_point[1] > 0)
    if node.type in _FUNCTIONS:
        yield Definition(_name(node), first, last)
    elif node.type in _CONTAINERS:
        body = _body(node)
        if body is not None:
            members = tuple(_inside(body, depth + 1, _before(node, body))) if depth < _DEEPEST else ()
            yield Definition(_name(node), first, last, members, is_container=True)
    elif node.type in _ASSIGNED and (name := _assigned(node)):
        yield Definition(name, first, last)
    elif node.type in _WRAPPERS and depth < _DEEPEST:
        inner = list(_inside(node, depth + 1))
        if len(inner) == 1:
            only = inner[0]
            yield Definition(only.name, first, max(last, only.end), only.members, only.is_container)
        else:
            yield from inner


def _body(node: Any) -> Any:
    named = node.child_by_field_name("body")
    return named if named is not None else next((child for child in node.named_children if child.type in _BODIES), None)


def _assigned(node: Any) -> str:
    """Return the name of a variable that is declared with a function or class as its value: `const f = () => …`."""
    for child in node.named_children:
        value = child.child_by_field_name("value") if child.type == "variable_declarator" else None
        if value is not None and value.type in _VALUES:
            return _name(child)
    return ""


def _name(node: Any) -> str:
    """Return the name of a definition, at most 120 characters; empty if it has none.

    In C the name is the innermost declarator. In Rust an `impl` has the name of its type. In Go a type declaration has
    the name of its first specification.
    """
    found = node.child_by_field_name("name")
    if found is None and node.type == "impl_item":
        found = node.child_by_field_name("type")
    if found is None and node.type == "type_declaration":
        found = next((child.child_by_field_name("name") for child in node.named_children), None)
    declarator = node.child_by_field_name("declarator")
    for _ in range(_DEEPEST):
        if found is not None or declarator is None:
            break
        inner = declarator.child_by_field_name("declarator")
        if inner is None:
            found = declarator
        declarator = inner
    return found.text.decode("utf-8", "replace")[:120] if found is not None and found.text else ""
