"""Transcripts of a client on this machine: their folders, their files, and the parser of each file.

Files are opened below the folder that the user names, without following a link.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from ctxfs.store import rooted_fs
from ctxfs.store.user_folders import home_folder
from ctxfs.transcripts.claude_code import ClaudeCodeParser
from ctxfs.transcripts.codex import CodexParser
from ctxfs.transcripts.gemini import GeminiParser
from ctxfs.transcripts.json_files import ByteFile, Item, read_elements, read_lines
from ctxfs.transcripts.message import LeftOut, Parser

Progress = Callable[[int], None]
_MAX_PROJECT_BYTES = 4096
_SIDE_FOLDERS = frozenset(("tool-results", "memory"))


class Source(Protocol):
    """A file with messages."""

    @property
    def name(self) -> str:
        """The name for people."""
        ...

    @property
    def size(self) -> int:
        """The number of bytes that `read` reports."""
        ...

    @property
    def changed_at(self) -> float:
        """The time of modification in seconds."""
        ...

    def make_parser(self, left_out: LeftOut) -> Parser:
        """Return a parser of its objects."""
        ...

    def read(self, progress: Progress) -> Iterator[Item]:
        """Yield its objects; call `progress` with numbers of read bytes. Raise OSError if it cannot be read."""
        ...


class CountedFile:
    """A file whose reads are reported, up to its size when the reading begins.

    A file may grow by the import itself, such as the log of the agent that runs it, and would never end.
    """

    def __init__(self, file: ByteFile, progress: Progress, size: int | None = None) -> None:
        """Read a file, up to `size` bytes if it is not None."""
        self._file = file
        self._progress = progress
        self._remaining = sys.maxsize if size is None else size

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        return self._count(self._file.read(min(size, self._remaining)))

    def readline(self, size: int, /) -> bytes:
        """Read a line of at most `size` bytes."""
        return self._count(self._file.readline(min(size, self._remaining)))

    def _count(self, data: bytes) -> bytes:
        self._remaining -= len(data)
        self._progress(len(data))
        return data


def count_reads(file: BinaryIO, progress: Progress) -> CountedFile:
    """Return an open regular file whose reads are reported, and end at its current size."""
    return CountedFile(file, progress, os.fstat(file.fileno()).st_size)


@dataclass(frozen=True, slots=True)
class TranscriptFile:
    """A transcript below a folder."""

    root: str
    names: Sequence[str]
    size: int
    changed_at: float
    client: str

    @property
    def name(self) -> str:
        """The path below the folder."""
        return "/".join(self.names)

    def make_parser(self, left_out: LeftOut) -> Parser:
        """Return a parser of the client's format."""
        stem = self.names[-1].removesuffix(".jsonl").removesuffix(".json")
        match self.client:
            case "claude-code":
                return ClaudeCodeParser(stem, left_out)
            case "codex":
                return CodexParser(stem, left_out)
            case _:
                return GeminiParser(stem, left_out, self._read_project())

    def read(self, progress: Progress) -> Iterator[Item]:
        """Yield the objects of the file."""
        with os.fdopen(rooted_fs.open_file(self.root, self.names), "rb") as file:
            counted = count_reads(file, progress)
            yield from read_elements(counted) if self.names[-1].endswith(".json") else read_lines(counted)

    def _read_project(self) -> str:
        """Return the project of a transcript of Gemini CLI, from the file `.project_root` beside its folder."""
        folder = self.names[: self.names.index("chats")] if "chats" in self.names else self.names[:-1]
        with suppress(OSError, UnicodeDecodeError):
            head = rooted_fs.read_head(self.root, [*folder, ".project_root"], _MAX_PROJECT_BYTES)
            return head.decode("utf-8").strip()
        return ""


@dataclass(slots=True)
class Folder:
    """The transcripts below a folder, oldest first, and the names that are not read, with the reason."""

    files: list[TranscriptFile] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)


def default_folder(client: str) -> str:
    """Return the folder in which a client keeps its data, also if it does not exist."""
    home = home_folder()
    match client:
        case "claude-code":
            configured = os.environ.get("CLAUDE_CONFIG_DIR")
            other = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "claude")
            folders = [configured] if configured else [os.path.join(home, ".claude"), other]
            return next((name for name in folders if os.path.isdir(os.path.join(name, "projects"))), folders[0])
        case "codex":
            return os.environ.get("CODEX_HOME") or os.path.join(home, ".codex")
        case _:
            return os.path.join(os.environ.get("GEMINI_CLI_HOME") or home, ".gemini")


def list_transcripts(client: str, folder: str) -> Folder:
    """Return the transcripts of a client in its folder, in a folder of that, or in one file."""
    listed = Folder()
    if not os.path.isdir(folder):
        root, name = os.path.split(os.path.abspath(folder))
        _add_file(listed, client, root, [name])
        return listed
    subfolders = {
        "claude-code": ("projects",),
        "codex": ("sessions", "archived_sessions"),
        "gemini": ("tmp",),
    }[client]
    begins = [name for name in subfolders if os.path.isdir(os.path.join(folder, name))]
    for begin in begins or [""]:
        if begin and os.path.islink(os.path.join(folder, begin)):
            listed.links.append(begin)
            continue
        for names in _walk(folder, begin, listed):
            if _is_transcript(client, [os.path.basename(os.path.abspath(folder)), *names]):
                _add_file(listed, client, folder, names)
    key = _session_time if client == "codex" else _changed
    listed.files.sort(key=key)
    return listed


def _walk(folder: str, begin: str, listed: Folder) -> Iterator[list[str]]:
    for parent, folders, files in rooted_fs.walk(os.path.join(folder, begin) if begin else folder):
        names = [] if parent == folder else os.path.relpath(parent, folder).split("/")
        for name in folders:
            if not os.access(os.path.join(parent, name), os.R_OK | os.X_OK):
                listed.faults.append(("/".join((*names, name)), "the folder cannot be read"))
        for name in sorted(files):
            yield [*names, name]


def _is_transcript(client: str, names: Iterable[str]) -> bool:
    *folders, name = names
    if client == "gemini":
        return name == "logs.json" or ("chats" in folders and name.endswith((".json", ".jsonl")))
    return name.endswith(".jsonl") and _SIDE_FOLDERS.isdisjoint(folders[1:])


def _add_file(listed: Folder, client: str, root: str, names: list[str]) -> None:
    try:
        status = os.lstat(os.path.join(root, *names))
    except OSError as error:
        listed.faults.append(("/".join(names), error.strerror or str(error)))
        return
    if stat.S_ISLNK(status.st_mode):
        listed.links.append("/".join(names))
    elif not stat.S_ISREG(status.st_mode):
        listed.faults.append(("/".join(names), "it is no regular file"))
    else:
        listed.files.append(TranscriptFile(root, names, status.st_size, status.st_mtime, client))


def _changed(file: TranscriptFile) -> tuple[bool, float, str]:
    """Return a key by which an extract follows the transcripts, and a copy follows its source."""
    return file.names[-1] == "logs.json", file.changed_at, file.name


def _session_time(file: TranscriptFile) -> tuple[str, str]:
    """Return a key by which a fork follows its source: names of Codex begin with the time of the session."""
    return file.names[-1], file.name
