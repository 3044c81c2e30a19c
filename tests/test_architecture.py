"""Check the import structure of the code against ARCHITECTURE.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [path for top in ("ctxfs", "mounts", "mcp_server", "tools") for path in sorted((ROOT / top).rglob("*.py"))]

# library → the one package that may import it (a folder or a file); of the standard library, each file with that module
ROOMS: dict[str, str | tuple[str, ...]] = {
    "pyfuse3": ("ctxfs/fuse/transports/pyfuse.py", "ctxfs/fuse/mounting.py"),
    "tantivy": ("ctxfs/index/engines/fulltext.py", "ctxfs/index/engines/analyzers.py"),
    "hnswlib": "ctxfs/index/engines/vectors.py",
    "onnx": "ctxfs/index/engines/model_build.py",
    "onnxruntime": ("ctxfs/index/engines/embedders/onnx_session.py", "ctxfs/index/engines/model_build.py"),
    "httpx2": ("ctxfs/index/engines/embedders/endpoint.py", "ctxfs/mcp_client/connection.py"),
    "safetensors": "ctxfs/index/engines/model_build.py",
    "chardet": "ctxfs/index/extract/charsets.py",
    "lxml": "ctxfs/index/extract/formats/markup.py",
    "pypdfium2": "ctxfs/index/extract/formats/pdf.py",
    "email": "ctxfs/index/extract/formats/mail_parts.py",
    "tree_sitter": "ctxfs/index/extract/syntax.py",
    "tiktoken": "ctxfs/context/build/tokens.py",
    "sqlite3": (
        "ctxfs/store/derived_db.py",
        "ctxfs/index/engines/catalog.py",
        "ctxfs/index/engines/embeddings.py",
        "ctxfs/index/engines/embedding_requests.py",
    ),
    "git": "ctxfs/versions/objects/git.py",
    "gitdb": "ctxfs/versions/objects/git.py",
    "msgpack": ("ctxfs/rpc/frames.py", "ctxfs/shared/entries.py"),
    "psycopg": "ctxfs/shared/postgres_log.py",
    "obstore": "ctxfs/shared/object_storage.py",
    "inotify_simple": "ctxfs/daemon/watch.py",
    "rich": "ctxfs/cli/progress.py",
    "click": "ctxfs/cli",
    "mcp": ("mcp_server", "ctxfs/mcp_client"),
    "pydantic": ("mcp_server", "ctxfs/exec/function_program.py"),
    "referencing": "ctxfs/exec/schema.py",
    "hypercorn": "ctxfs/http/http1_only.py",
    "cryptography": "ctxfs/http/tls.py",
    "starlette": ("ctxfs/http", "ctxfs/serve", "ctxfs/web"),
    "jinja2": "ctxfs/web/templates.py",
    "pygments": "ctxfs/web/rendering.py",
    "fsspec": "ctxfs/integrations/fsspec_filesystem.py",
    "langgraph": "ctxfs/integrations/langgraph_store.py",
    "langchain_core": "ctxfs/integrations/langchain_retriever.py",
    "llama_index": "ctxfs/integrations/llama_index_reader.py",
    "jsonschema": "ctxfs/exec/schema.py",
    "yaml": ("ctxfs/index/extract/front_matter.py", "mcp_server/yaml_text.py"),
    "markdown_it": ("ctxfs/index/extract/markdown.py", "ctxfs/web/rendering.py"),
}


def imports_of(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.split(".")[0])
    return modules


@pytest.mark.parametrize("library", ROOMS)
def test_library_is_imported_in_one_package(library: str) -> None:
    mine = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "tools"]  # those are separate programs
    users = {str(path.relative_to(ROOT)) for path in mine if library in imports_of(path)}
    assert users, f"no package imports {library} any more"
    assert all(user.startswith(ROOMS[library]) for user in users), users


def test_the_model_imports_the_standard_library_only() -> None:
    for path in (ROOT / "ctxfs" / "model").glob("*.py"):
        assert imports_of(path) <= set(sys.stdlib_module_names) | {"ctxfs"}, path


def test_built_in_tools_stand_on_their_own() -> None:
    for path in (ROOT / "tools").rglob("*.py"):
        assert imports_of(path) <= set(sys.stdlib_module_names), path


def test_only_the_composition_root_makes_an_app_s_parts() -> None:
    for path in SOURCES:
        text = path.read_text()
        if path.name != "app.py" and not {"mounts", "services"} & set(path.parts):
            assert "from ctxfs.mounts" not in text or "import hit_record" in text, path


def test_every_package_is_described() -> None:
    described = (ROOT / "ARCHITECTURE.md").read_text()
    for folder in sorted((ROOT / "ctxfs").iterdir()):
        if folder.is_dir() and not folder.is_symlink() and (folder / "__init__.py").exists():
            assert f"`ctxfs/{folder.name}/`" in described, f"ARCHITECTURE.md does not speak of {folder.name}"


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports", "--no-cache"]],
    ids=["ruff", "format", "mypy", "layers"],
)
def test_checkers_report_no_error(command: list[str]) -> None:
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_engines_are_not_loaded_before_the_first_query() -> None:
    """A daemon mounts first: the engines take a seventh of a second to load."""
    heavy = {"numpy", "tantivy", "hnswlib", "onnxruntime", "lxml", "tree_sitter", "tokenizers"}
    code = f"import sys, ctxfs.app; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
