"""The installation of ctxfs: its optional packages, and the commands that add them and that upgrade it.

The modules of each extra are listed here, so that a command can name a missing one before it imports any.
"""

import enum
import importlib.util
import os
import shlex
import sys

from ctxfs.model.errors import EXIT_FAILURE, CommandError

NAME = "ctxfs"
EXTRAS = {  # extra of pyproject.toml → the modules that it brings
    "fuse": ("pyfuse3",),
    "graph": ("hnswlib",),
    "meaning": ("onnxruntime", "tokenizers"),
    "model": ("onnx", "safetensors", "onnxruntime", "tokenizers"),
    "web": ("cryptography", "jinja2", "pygments", "starlette"),
    "fsspec": ("fsspec",),
    "postgres": ("psycopg",),
    "s3": ("obstore",),
    "shared": ("obstore", "psycopg"),
}


class Installer(enum.Enum):
    """The program that installed this copy of ctxfs."""

    PIP = "pip"
    UV = "uv"
    UV_TOOL = "uv tool"
    PIPX = "pipx"


def find_installer(prefix: str = sys.prefix) -> Installer:
    """Return the installer of the environment at `prefix`, by its receipts and its settings."""
    if os.path.exists(os.path.join(prefix, "uv-receipt.toml")):
        return Installer.UV_TOOL
    if os.path.exists(os.path.join(prefix, "pipx_metadata.json")):
        return Installer.PIPX
    return Installer.PIP if importlib.util.find_spec("pip") is not None else Installer.UV


def is_importable(module: str) -> bool:
    """Return True if a module of the top level is installed. Does not import it."""
    return importlib.util.find_spec(module) is not None


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [module for module in EXTRAS[extra] if not is_importable(module)]


def require_extra(extra: str, purpose: str, code: int = EXIT_FAILURE) -> None:
    """Raise CommandError, with the command that installs the extra, if one of its modules is missing."""
    if missing := missing_modules(extra):
        raise CommandError(f"{purpose} needs {', '.join(missing)}", install_command(extra), code)


def install_command(extra: str) -> str:
    """Return the shell command that adds an extra to this installation."""
    requirement = shlex.quote(f"{NAME}[{extra}]{_local_origin()}")
    return {
        Installer.PIP: f"{_python()} -m pip install {requirement}",
        Installer.UV: f"uv pip install --python {_python()} {requirement}",
        Installer.UV_TOOL: f"uv tool install --force {requirement}",
        Installer.PIPX: f"pipx install --force {requirement}",
    }[find_installer()]


def upgrade_command() -> str:
    """Return the shell command that installs the newest ctxfs in the place of this one."""
    return {
        Installer.PIP: f"{_python()} -m pip install --upgrade {NAME}",
        Installer.UV: f"uv pip install --python {_python()} --upgrade {NAME}",
        Installer.UV_TOOL: f"uv tool upgrade {NAME}",
        Installer.PIPX: f"pipx upgrade {NAME}",
    }[find_installer()]


def pip_command() -> list[str]:
    """Return a command that runs pip: of this Python, by uv, or of the PATH. Raise CommandError if there is none."""
    import shutil

    if is_importable("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip]
    raise CommandError("neither pip nor uv is installed", "apt-get install python3-pip, or install uv")


def _python() -> str:
    return shlex.quote(sys.executable or "python3")


def _local_origin() -> str:
    """Return ` @ URL` if ctxfs was installed from a folder or wheel that is still there (PEP 610), else nothing."""
    import importlib.metadata  # these are slow to import, and most commands do not need them
    import json
    import urllib.parse

    try:
        origin = json.loads(importlib.metadata.distribution(NAME).read_text("direct_url.json") or "{}")
        parts = urllib.parse.urlsplit(str(origin.get("url", "")))
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
        return ""
    is_present = parts.scheme == "file" and os.path.exists(urllib.parse.unquote(parts.path))
    return f" @ {parts.geturl()}" if is_present else ""
