"""Test the command itself: its libraries are optional, and other commands do not load them."""

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest
from click.testing import CliRunner

from ctxfs.cli.web import web
from tests.live import Live

OPTIONAL = ("starlette", "jinja2", "pygments", "hypercorn", "markdown_it")


def test_missing_libraries_are_named_with_the_remedy(offline: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without_jinja(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in ("jinja2", "starlette") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_jinja)
    done = CliRunner().invoke(web, ["--no-open"], obj=str(offline.store))
    assert done.exception is not None
    assert "jinja2, starlette" in str(done.exception)
    remedy = str(getattr(done.exception, "remedy", ""))
    assert "pip install" in remedy
    assert "ctxfs[web]" in remedy  # with its origin, if it was installed from a folder


@pytest.mark.parametrize("arguments", [["--help"], ["web", "--help"], ["status", "--help"]])
def test_help_loads_no_library_of_the_page(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom ctxfs.cli.main import cli\n"
        f"try: cli.main({arguments!r}, standalone_mode=False)\nfinally: print('loaded', {set(OPTIONAL)!r} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded set()"


def test_an_unknown_principal_is_a_usage_error(offline: Live) -> None:
    done = offline.try_run("web", "--no-open", "--as", "mallory")
    assert done.returncode == 2
    assert "principal" in done.stderr
