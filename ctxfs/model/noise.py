"""Noise: files that programs write and people do not read, by their names, folders and texts. Pure.

Search finds noise by words, behind other files, and never embeds it. Versions leave out the paths of `scratch_noise`.
`NoiseClassifier` reads folders through a `FolderProbe`, because some folders are recognised by their contents.

Sources of the patterns, beside the manuals of the programs:

- Lock files: the manuals of the package managers. `pylock.toml`: packaging.python.org, "pylock.toml".
- `CACHEDIR.TAG`: the Cache Directory Tagging Specification (bford.info/cachedir) with its signature.
- `pyvenv.cfg`: PEP 405. `conda-meta`: the conda manual. `node_modules`: the npm manual, "folders".
- Generated code: `@generated` (Phabricator, used by Meta, Cargo, Buck); `Code generated … DO NOT EDIT.` (the go command).
- Minified code: lines of more than 110 characters on average, as in GitHub Linguist, with a margin.
- Editors: the manuals of Vim ("swap-file", "backup"), Emacs ("Auto Save", "Backup", "File Locks"), JetBrains ("safe
  write"), GLib (`.goutputstream-`), LibreOffice (`.~lock.`), Microsoft Office (`~$`), rsync, and macOS (`.DS_Store`).
  The kernel's NFS and libfuse rename open files that are removed (`.nfs`, `.fuse_hidden`).
"""

import re
from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Protocol

MAX_HEAD_CHARACTERS = 4000  # of a text, in which the mark of a generator is looked for
_MAX_HEAD_LINES = 30
_MAX_NAME_CHARACTERS = 255
_MAX_PROBED_NAMES = 300
_MAX_PROBED_DEPTH = 6
_MIN_MINIFIED_CHARACTERS = 1000
_MIN_MINIFIED_LINE = 200  # mean length of the lines of minified code
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


class Noise(StrEnum):
    """A kind of noise; the value is shown to people."""

    LOCK_FILE = "lock file"
    DRAWING = "drawing"
    MINIFIED = "minified code"
    GENERATED = "generated code"
    PACKAGES = "installed packages"
    ENVIRONMENT = "virtual environment"
    CACHE = "cache"
    VENDORED = "vendored code"
    EDITOR = "editor's file"


CONTENT_NOISE = frozenset((Noise.MINIFIED, Noise.GENERATED))  # recognised by the text

_LOCK_NAMES = frozenset(
    "package-lock.json npm-shrinkwrap.json .package-lock.json pnpm-lock.yaml bun.lockb go.sum go.work.sum pylock.toml "
    "conda-lock.yml packages.lock.json package.resolved cartfile.resolved gems.locked cabal.project.freeze "
    ".terraform.lock.hcl dub.selections.json .pnp.cjs .pnp.loader.mjs composer.lock.json project.assets.json".split()
)
_LOCK_NAME = re.compile(r"(?:.+\.lock|.+\.lockfile|.+[-_.]lock\.(?:json|ya?ml|toml)|pylock\.[^.]+\.toml)")
_DRAWING_SUFFIXES = frozenset(("svg", "eps", "xpm", "xbm", "dxf"))
_MINIFIED_NAME = re.compile(r".+[.-]min\.(?:m?js|cjs|css|html?)|.+\.(?:m?js|cjs|css)\.map")

_PACKAGE_FOLDERS = frozenset(
    ("node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages", ".yarn", ".pnpm-store")
)
# Of the packages, those that a package manager installs in the folder of a project.
_SCRATCH_PACKAGES = frozenset(("node_modules", "bower_components", "jspm_packages"))
_CACHE_FOLDERS = frozenset(
    ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".ipynb_checkpoints", ".gradle")
)
_VENDOR_FOLDERS = frozenset(
    ("vendor", "vendors", "_vendor", "vendored", "third_party", "third-party", "thirdparty", "3rdparty", "3rd_party")
)
_VENDOR_MARKERS = frozenset(("modules.txt", "autoload.php", ".cargo-checksum.json"))
# Entries of an environment. All other entries of its folder belong to principals.
_ENVIRONMENT_ENTRIES = frozenset(
    "pyvenv.cfg cachedir.tag bin scripts lib lib64 libs include share etc man conda-meta ssl pkgs".split()
)
_ENVIRONMENT_HOME = re.compile(rb"^[ \t]*home[ \t]*=", re.MULTILINE)

_CODE_SUFFIXES = frozenset(
    "asm bash c cc cjs clj cpp cs css cts cxx dart el erl ex exs f90 fish fs go gradle groovy h hh hpp hrl hs hxx java "
    "jl js jsx kt kts less lisp lua m mjs ml mli mm mts nim nix pas php pl pm proto ps1 py pyi pyx r rb rs s sass scala "
    "scm scss sh sol sql svelte swift tcl tf ts tsx v vb vim vue zig zsh".split()
)
_CONFIG_SUFFIXES = frozenset(
    "bazel bzl cfg cmake conf gn html htm in ini json json5 mk toml xhtml xml yaml yml".split()
)
_DOCUMENT_SUFFIXES = frozenset(
    "adoc canvas csv doc docx eml epub jpeg jpg jsonl md markdown mdx mbox odp ods odt org pdf png ppt pptx rst rtf "
    "tex tsv txt webp xls xlsx".split()
)
_FILE_SUFFIXES = _CODE_SUFFIXES | _CONFIG_SUFFIXES | _DOCUMENT_SUFFIXES  # other names may be folders: github.com
_MANIFEST_NAMES = frozenset(
    "cargo.toml cmakelists.txt composer.json configure go.mod makefile meson.build package.json pyproject.toml setup.cfg "
    "setup.py".split()
)
_COMMENT = re.compile(
    r"(?<!\s)\s*+(?://+!?|/\*+!?|\*|#+|--+|;+|%+|<!--+|\"\"\"|'''|\{-|\(\*|@?rem\b|dnl\b)(.*)", re.IGNORECASE
)
_BLOCK_COMMENTS = (("/*", "*/"), ("<!--", "-->"), ('"""', '"""'), ("'''", "'''"), ("{-", "-}"), ("(*", "*)"))
_MARKUP_COMMENT = re.compile(r"(?<!\s)\s*+<!--+(.*)")
_GENERATED_TAG = re.compile(r"(?<![\w@.])@generated(?![\w-])")
_GENERATED_WORD = re.compile(r"\b(?:auto-?)?(?:re)?generated\b|\bautogenerated\b", re.IGNORECASE)
_HANDS_OFF = re.compile(r"\b(?:do not|don't) (?:edit|modify|change)\b", re.IGNORECASE)
_GENERATED_CLAIM = re.compile(
    r"\bthis is an? (?:automatically |auto-?|machine-?)?generated (?:file|code|module|header|source|class|document)\b|"
    r"\bthis (?:file|code|module|header|document) (?:is|was|has been) (?:@|automatically |auto-?|machine-?)?generated\b|"
    r"^[\s*]*<?(?:code |file |source )?(?:automatically |auto-?|machine[- ])?generated (?:by(?! hand)|from|with|using)\b|"
    r"^[\s*]*<auto-?generated",
    re.IGNORECASE,
)  # fmt: skip

_EDITOR_NAME = re.compile(
    r".+~|#.+#|\.#.+|~\$.+|\.~.+|"
    r".+___jb_(?:tmp|old)___|\.DS_Store|\.tmp[A-Za-z0-9]{6}|"
    r"\..+\.sw[a-px]|\..+\.kate-swp|\.goutputstream-\w+|\.nfs[0-9a-f]{8,}|\.fuse_hidden[0-9a-f]+|.+\.crswap"
)
# Vim creates an empty file of this name, to test whether it may write to the folder.
_VIM_PROBES = frozenset(("4913", "5036", "5159"))
# Temporary files of programs that then rename them: the first group is the name of the final file.
_ATOMIC_NAMES = (
    re.compile(r"\A\.?(.+?)\.tmp(?:[.-][0-9A-Fa-f.-]{1,40})?"),
    re.compile(r"\A\.(.+)\.(?=\w{0,5}[A-Z0-9])[A-Za-z0-9]{6}"),  # rsync and mkstemp: letters and digits at random
)


class FolderProbe(Protocol):
    """Reads the folders of a tree for the classifier. Errors are empty results."""

    def names(self, folder: tuple[str, ...]) -> Collection[str]:
        """Return names in a folder, at most a few hundred of them."""
        ...

    def head(self, path: tuple[str, ...]) -> bytes:
        """Return the first kilobyte of a regular file; no link is followed."""
        ...


class NoiseClassifier:
    """The noise of one tree, by path. Results for folders are cached until `clear_cache`.

    Only folders at a depth of `min_depth` or more (1: the first level) are noise as a whole: those above it were chosen
    by a person, or belong to many principals. The entries of an environment are recognised at any depth.
    """

    def __init__(self, probe: FolderProbe, min_depth: int = 1) -> None:
        self._probe = probe
        self._min_depth = min_depth
        self._folders: dict[tuple[str, ...], Noise | None] = {}
        self._environments: dict[tuple[str, ...], bool] = {}

    def clear_cache(self) -> None:
        """Drop the cached results, because a marker file changed."""
        self._folders.clear()
        self._environments.clear()

    def classify(self, parts: tuple[str, ...]) -> Noise | None:
        """Return the noise of a file by its folders, else by its name; None for other files."""
        return self.folder_noise(parts) or classify_name(parts[-1])

    def folder_noise(self, parts: tuple[str, ...]) -> Noise | None:
        """Return the noise of the folders above a path, the outermost first; None if it has none."""
        for depth in range(1, len(parts)):
            folder = parts[:depth]
            if folder not in self._folders:
                self._folders[folder] = self._classify_folder(folder)
            if (noise := self._folders[folder]) is not None:
                return noise
        return self._environment_noise(parts)

    def scratch_noise(self, parts: tuple[str, ...]) -> Noise | None:
        """Return the noise of a path that a program can make again: packages, environments and caches by name."""
        for depth in range(1, len(parts) + 1):
            name = parts[depth - 1].lower()
            if depth >= self._min_depth and name in _SCRATCH_PACKAGES:
                return Noise.PACKAGES
            if depth >= self._min_depth and name in _CACHE_FOLDERS:
                return Noise.CACHE
            if name in _ENVIRONMENT_ENTRIES and self._is_environment(parts[: depth - 1]):
                return Noise.ENVIRONMENT
        return None

    def _environment_noise(self, parts: tuple[str, ...]) -> Noise | None:
        """Return ENVIRONMENT for the own entries of an environment in the folder above `parts`."""
        is_entry = parts[-1].lower() in _ENVIRONMENT_ENTRIES
        return Noise.ENVIRONMENT if is_entry and self._is_environment(parts[:-1]) else None

    def _classify_folder(self, folder: tuple[str, ...]) -> Noise | None:
        if (noise := self._environment_noise(folder)) is not None or len(folder) < self._min_depth:
            return noise
        name = folder[-1].lower()
        if name in _PACKAGE_FOLDERS:
            return Noise.PACKAGES
        if name in _CACHE_FOLDERS:
            return Noise.CACHE
        if self._probe.head((*folder, "CACHEDIR.TAG")).startswith(_CACHE_SIGNATURE):
            return Noise.CACHE
        return Noise.VENDORED if name in _VENDOR_FOLDERS and self._holds_software(folder) else None

    def _is_environment(self, folder: tuple[str, ...]) -> bool:
        """Return True for the folder of a virtual environment: `pyvenv.cfg` with its `home`, or conda's records."""
        if not folder:
            return False  # the root was chosen by a person
        if folder not in self._environments:
            is_venv = _ENVIRONMENT_HOME.search(self._probe.head((*folder, "pyvenv.cfg"))) is not None
            self._environments[folder] = is_venv or bool(self._probe.head((*folder, "conda-meta", "history")))
        return self._environments[folder]

    def _holds_software(self, folder: tuple[str, ...]) -> bool:
        """Return True if a folder has the marker of a package manager, or more code than documents."""
        software = documents = seen = 0
        level = [folder]
        for _ in range(_MAX_PROBED_DEPTH):
            next_level = []
            for current in level:
                for name in self._probe.names(current):
                    seen += 1
                    if name in _VENDOR_MARKERS:
                        return True
                    suffix = _suffix_of(name)
                    is_document = suffix in _DOCUMENT_SUFFIXES
                    is_software = suffix in _CODE_SUFFIXES or name.lower() in _MANIFEST_NAMES
                    software, documents = software + is_software, documents + is_document
                    if not is_software and suffix not in _FILE_SUFFIXES and not name.startswith("."):
                        next_level.append((*current, name))
                if seen > _MAX_PROBED_NAMES:
                    return software > documents
            level = next_level
        return software > documents


def _suffix_of(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot and stem else ""


def is_marker(name: str) -> bool:
    """Return True for a file that decides about its folder; the folder is classified again when it changes."""
    return name in ("pyvenv.cfg", "CACHEDIR.TAG") or name in _VENDOR_MARKERS


def classify_name(name: str) -> Noise | None:
    """Return the noise of a file by its name alone."""
    lower = name.lower()
    if is_editor_file(name):
        return Noise.EDITOR
    if lower in _LOCK_NAMES or _LOCK_NAME.fullmatch(lower):
        return Noise.LOCK_FILE
    if _suffix_of(name) in _DRAWING_SUFFIXES:
        return Noise.DRAWING
    return Noise.MINIFIED if _MINIFIED_NAME.fullmatch(lower) else None


def is_editor_file(name: str, size: int = 1) -> bool:
    """Return True for an editor's swap, backup, lock or probe file of `size` bytes, in any folder."""
    if name in _VIM_PROBES:
        return size == 0
    return len(name) <= _MAX_NAME_CHARACTERS and _EDITOR_NAME.fullmatch(name) is not None


def final_names(name: str) -> tuple[str, ...]:
    """Return the names of the files that a temporary file of an atomic writer may replace; empty for other names.

    A name alone does not show a temporary file: only beside the final file it is one.
    """
    matches = (pattern.fullmatch(name) for pattern in _ATOMIC_NAMES) if len(name) <= _MAX_NAME_CHARACTERS else ()
    return tuple(dict.fromkeys(match[1] for match in matches if match is not None))


def classify_text(name: str, text: str) -> Noise | None:
    """Return the noise of a text by its content: minified or generated code. Prose is neither."""
    suffix = _suffix_of(name)
    is_long_code = suffix in _CODE_SUFFIXES and len(text) >= _MIN_MINIFIED_CHARACTERS
    if is_long_code and len(text) / (text.count("\n") + 1) > _MIN_MINIFIED_LINE:
        return Noise.MINIFIED
    return Noise.GENERATED if _is_generated(name, suffix, text[:MAX_HEAD_CHARACTERS]) else None


def _is_generated(name: str, suffix: str, head: str) -> bool:
    """Return True if the comments at the head of a file are those of a generator."""
    is_requirements = suffix == "txt" and name.lower().startswith(("requirements", "constraints"))
    if is_requirements or suffix in _CODE_SUFFIXES | _CONFIG_SUFFIXES or name.lower() in _MANIFEST_NAMES:
        pattern = _COMMENT
    elif suffix in ("md", "markdown", "mdx"):
        pattern = _MARKUP_COMMENT
    else:
        return False
    comments = _find_comments(head.split("\n")[:_MAX_HEAD_LINES], pattern)
    if any(_GENERATED_TAG.search(comment) or _GENERATED_CLAIM.search(comment) for comment in comments):
        return True
    return any(map(_HANDS_OFF.search, comments)) and any(map(_GENERATED_WORD.search, comments))


def _find_comments(lines: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """Return the texts of the comments in lines that begin with one, or that a block comment above them contains."""
    comments, end = list[str](), ""
    for line in lines:
        if end:
            text, closing, _ = line.partition(end)
            comments.append(text.strip())
            end = "" if closing else end
        elif (match := pattern.match(line)) is not None:
            comments.append(match[1])
            opening = line.strip()[:4]
            end = next((close for begin, close in _BLOCK_COMMENTS if opening.startswith(begin)), "")
            end = "" if end and end in match[1] else end
    return comments
