"""Log, diff and show of a git repository, restricted to one folder. Input: JSON on stdin. Output: git's.

The repository is untrusted. git never reads its `.git`, but a git directory of our own. That directory contains our
configuration, the refs parsed here, and the objects. All files are opened relative to directory descriptors, without
following links. Therefore `config`, `commondir`, `gitdir`, alternates, attributes, hooks, replacements, grafts,
mailmaps and caches of the repository have no effect.
"""

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MAX_OUTPUT_BYTES = 9_000_000
MAX_COMPLAINT_BYTES = 20_000
MAX_REF_BYTES = 1024
MAX_REFS_BYTES = 16_000_000
MAX_REFS = 50_000
MAX_REF_DEPTH = 16
MAX_PACKS = 100
MAX_LOOSE_OBJECTS = 50_000
MAX_LOOSE_BYTES = 200_000_000
MAX_SHALLOW_COMMITS = 1000
_LIMIT = 20
_PIECE = 1 << 16

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PACK = re.compile(r"pack-[0-9a-f]{40}(?:[0-9a-f]{24})?\.(?:pack|idx)")
_REF = re.compile(r"refs/(?:heads|tags|remotes)/[A-Za-z0-9_][A-Za-z0-9._+@-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+@-]*)*")
_REVISION = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9._/~^@+-]*"
)  # no `:`, which names a file anywhere; no `{`, which searches
_CONFIG = """[core]
\trepositoryformatversion = {version}
\tbare = true
\tbigFileThreshold = 5m
\tpackedGitWindowSize = 16m
\tpackedGitLimit = 128m
\tdeltaBaseCacheLimit = 64m
\tquotePath = false
\tfsmonitor = false
\tuseReplaceRefs = false
\tcommitGraph = false
\tmultiPackIndex = false
\thooksPath = /dev/null
\tattributesFile = /dev/null
\texcludesFile = /dev/null
[log]
\tshowSignature = false
\tmailmap = false
[diff]
\tsubmodule = short
\trenameLimit = 200
[gpg]
\tprogram = false
[gc]
\tauto = 0
[protocol]
\tallow = never
"""
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "GIT_ALLOC_LIMIT": "500m",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_GRAFT_FILE": os.devnull,
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv")
_ELSEWHERE = "its repository lies elsewhere"


def main() -> int:
    """Print git's output; return exit code 1, with the reason on stderr, for any failure."""
    try:
        asked = json.loads(sys.stdin.buffer.read() or b"{}")
        with tempfile.TemporaryDirectory(prefix="git-") as scratch, contextlib.ExitStack() as stack:
            made = CleanRepository(Path(scratch) / "git", stack)
            prefix = made.take(str(asked["repo"]), os.environ.get("CTXFS_CEILING", ""))
            said = made.run(arguments(asked, prefix))
    except (ValueError, OSError, MemoryError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        print(f"git: {' '.join((words or type(error).__name__).split())[:300]}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(said or b"nothing\n")
    return 0


class CleanRepository:
    """A git directory at `place` with the checked content of another one. `stack` holds descriptors open."""

    def __init__(self, place: Path, stack: contextlib.ExitStack) -> None:
        self._place = place
        self._stack = stack
        self._packs: list[int] = []
        self._shallow: list[str] = []

    def take(self, folder: str, ceiling: str) -> str:
        """Copy the repository that contains `folder`; return the folder's path in it.

        The search for it ends below `ceiling`. Raises ValueError and OSError.
        """
        repository, prefix = self._found(folder, ceiling)
        for name in ("objects/pack", "objects/info", "refs"):
            (self._place / name).mkdir(parents=True)
        head, refs = _read(repository, "HEAD", MAX_REF_BYTES), _refs(repository)
        width = self._write_refs(head, refs)
        version = 1 if width == 64 else 0
        more = "[extensions]\n\tobjectFormat = sha256\n" if width == 64 else ""
        (self._place / "config").write_text(_CONFIG.format(version=version) + more)
        objects = self._directory("objects", repository)
        for name in ("alternates", "http-alternates"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.stat(f"info/{name}", dir_fd=objects, follow_symlinks=False)
                raise ValueError("its objects are borrowed from another repository")
        self._take_packs(objects)
        self._take_loose(objects)
        self._shallow = _HEX.findall(_read(repository, "shallow", 65 * MAX_SHALLOW_COMMITS) or "")[:MAX_SHALLOW_COMMITS]
        return prefix

    def run(self, arguments: list[str]) -> bytes:
        """Return git's output. Raises ValueError with git's error message."""
        if self._shallow:
            self._write_shallow()
        return self._git(["--no-pager", *arguments])

    def _directory(self, name: str, parent: int | None = None) -> int:
        """Open a directory and return its descriptor. Raises ValueError for a link or another kind of file."""
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError as error:
            raise ValueError(_ELSEWHERE) from error
        self._stack.callback(os.close, fd)
        return fd

    def _found(self, folder: str, ceiling: str) -> tuple[int, str]:
        """Return (descriptor of the nearest `.git` above, path of `folder` relative to its directory).

        Raises ValueError.
        """
        parts = PurePosixPath(os.path.abspath(folder)).parts
        opened = [self._directory("/")]
        for name in parts[1:]:
            opened.append(self._directory(name, opened[-1]))
        for depth in range(len(parts), 0, -1):
            if ceiling and PurePosixPath(*parts[:depth]) == PurePosixPath(ceiling):
                break
            with contextlib.suppress(FileNotFoundError):
                os.stat(".git", dir_fd=opened[depth - 1], follow_symlinks=False)
                return self._directory(".git", opened[depth - 1]), "/".join(parts[depth:])
        raise ValueError("it lies in no repository")

    def _write_refs(self, head: str | None, refs: dict[str, str]) -> int:
        """Write HEAD and the refs of its hash length; return that length."""
        said = (head or "").strip()
        named = said.removeprefix("ref: ").strip()
        if _HEX.fullmatch(said):
            commit = said
        elif said.startswith("ref: ") and _REF.fullmatch(named) and named in refs:
            commit = refs[named]
        else:
            raise ValueError("its HEAD names no commit: it may have none, or keep its refs in another form")
        kept = {name: each for name, each in refs.items() if len(each) == len(commit)}
        lines = [f"{each} {name}\n" for name, each in sorted(kept.items())]
        (self._place / "packed-refs").write_text("# pack-refs with: sorted \n" + "".join(lines))
        (self._place / "HEAD").write_text(f"{commit}\n")
        return len(commit)

    def _take_packs(self, objects: int) -> None:
        """Link the packs by descriptor, so that git reads the files opened now, without a copy."""
        try:
            folder = self._directory("pack", objects)
        except ValueError:
            if "pack" in os.listdir(objects):
                raise
            return
        names = set(filter(_PACK.fullmatch, os.listdir(folder)))
        whole = sorted(name for name in names if name.endswith(".pack") and f"{name[:-5]}.idx" in names)
        if len(whole) > MAX_PACKS:
            raise ValueError(f"it has more than {MAX_PACKS} packs: git gc makes them one")
        for name in (each for pack in whole for each in (pack, f"{pack[:-5]}.idx")):
            fd = _opened(folder, name)
            self._stack.callback(os.close, fd)
            self._packs.append(fd)
            os.symlink(f"/proc/self/fd/{fd}", self._place / "objects" / "pack" / name)

    def _take_loose(self, objects: int) -> None:
        count = total = 0
        for start in (f"{number:02x}" for number in range(256)):
            try:
                folder = os.open(start, _DIRECTORY, dir_fd=objects)
            except OSError:
                continue
            try:
                for name in os.listdir(folder):
                    if not _HEX.fullmatch(start + name):
                        continue
                    data = _copied(folder, name, MAX_LOOSE_BYTES - total)
                    count, total = count + 1, total + len(data)
                    if count > MAX_LOOSE_OBJECTS:
                        raise ValueError(f"it has more than {MAX_LOOSE_OBJECTS} objects in no pack: git gc packs them")
                    target = self._place / "objects" / start
                    target.mkdir(exist_ok=True)
                    (target / name).write_bytes(data)
            finally:
                os.close(folder)

    def _write_shallow(self) -> None:
        """Write the commits whose parents are all missing, as in a shallow clone; history may end at no others."""
        headers = self._git(["cat-file", "--batch"], "".join(f"{each}\n" for each in self._shallow).encode())
        parents: dict[str, list[str]] = {}
        current = ""
        for line in headers.decode("utf-8", "replace").splitlines():
            words = line.split(" ")
            if len(words) == 3 and words[1] == "commit" and words[0] in self._shallow:
                current = words[0]
                parents.setdefault(current, [])
            elif len(words) == 2 and words[0] == "parent" and current and _HEX.fullmatch(words[1]):
                parents[current].append(words[1])
            elif not line:
                current = ""  # the commit message follows
        asked = sorted({each for some in parents.values() for each in some})
        said = self._git(["cat-file", "--batch-check"], "".join(f"{each}\n" for each in asked).encode()).decode()
        missing = {line.split(" ")[0] for line in said.splitlines() if line.endswith(" missing")}
        ends = [each for each, some in parents.items() if some and missing.issuperset(some)]
        if ends:
            (self._place / "shallow").write_text("".join(f"{each}\n" for each in ends))

    def _git(self, arguments: list[str], said: bytes = b"") -> bytes:
        home = {"HOME": str(self._place), "XDG_CONFIG_HOME": str(self._place), "GIT_DIR": str(self._place)}
        environment = {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **home}
        with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as complaints:
            asked.write(said)
            asked.seek(0)
            try:
                process = subprocess.Popen(
                    ["git", *arguments],
                    cwd=self._place,
                    env=environment,
                    stdin=asked,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    pass_fds=self._packs,
                )
            except FileNotFoundError as error:
                raise ValueError("git is not installed") from error
            assert process.stdout is not None
            try:
                found = process.stdout.read(MAX_OUTPUT_BYTES + 1)
                if len(found) > MAX_OUTPUT_BYTES:
                    raise ValueError(f"it says more than {MAX_OUTPUT_BYTES} bytes: name a path, or a limit")
                code = process.wait()
            finally:
                process.kill()
                process.stdout.close()
                process.wait()
            if code:
                complaints.seek(0)
                lines = complaints.read(MAX_COMPLAINT_BYTES).decode("utf-8", "replace").strip().splitlines()
                raise ValueError(lines[-1].removeprefix("fatal: ") if lines else "git failed")
        return found


def _opened(folder: int, name: str) -> int:
    """Return a descriptor of a regular file. Raises ValueError for any other kind."""
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"'{name}' of its repository is no file of its own") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"'{name}' of its repository is no file of its own")
    return fd


def _copied(folder: int, name: str, most: int) -> bytes:
    """Return the content of a regular file. Raises ValueError if it exceeds `most` bytes."""
    fd = _opened(folder, name)
    with open(fd, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError("its files are too large: git gc packs them")
    return data


def _read(folder: int, name: str, most: int) -> str | None:
    """Return a small text file; None if it is absent."""
    try:
        return _copied(folder, name, most).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _refs(repository: int) -> dict[str, str]:
    """Return plain names of branches, tags and remote branches with their hashes; loose files override packed-refs."""
    found: dict[str, str] = {}
    for line in (_read(repository, "packed-refs", MAX_REFS_BYTES) or "").split("\n"):
        commit, _, name = line.partition(" ")
        if _HEX.fullmatch(commit) and _is_ref(name):
            found[name] = commit
    for name, said in _loose_refs(repository):
        if _HEX.fullmatch(said):
            found[name] = said
    if len(found) > MAX_REFS:
        raise ValueError(f"it has more than {MAX_REFS} branches and tags")
    return found


def _is_ref(name: str) -> bool:
    return len(name) < MAX_REF_BYTES and bool(_REF.fullmatch(name)) and ".." not in name and "@{" not in name


def _loose_refs(repository: int) -> Iterator[tuple[str, str]]:
    """Yield (name, content) of the files below `refs/`, within limits of depth and number."""
    seen = 0
    waiting = [("refs", 0)]
    while waiting:
        place, depth = waiting.pop()
        try:
            folder = _beneath(repository, place)
        except OSError:
            continue
        try:
            for name in os.listdir(folder):
                seen += 1
                if seen > MAX_REFS:
                    raise ValueError(f"it has more than {MAX_REFS} branches and tags")
                path = f"{place}/{name}"
                with contextlib.suppress(OSError):
                    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        if depth < MAX_REF_DEPTH:
                            waiting.append((path, depth + 1))
                    elif _is_ref(path):
                        with contextlib.suppress(ValueError):
                            yield path, _copied(folder, name, MAX_REF_BYTES).decode("ascii", "replace").strip()
        finally:
            os.close(folder)


def _beneath(repository: int, place: str) -> int:
    """Return a descriptor of a directory below another one; no component may be a link."""
    fd = os.dup(repository)
    for name in place.split("/"):
        try:
            deeper = os.open(name, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def arguments(asked: dict[str, object], prefix: str) -> list[str]:
    """Return git's arguments. Raises ValueError for an invalid revision, and for a path that leaves the folder."""
    command, rev = str(asked["command"]), str(asked.get("rev", ""))
    path = PurePosixPath(str(asked.get("path") or "."))
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("the path leads out of the folder")
    paths = ["--", str(PurePosixPath(prefix) / path)]
    if command == "log":
        shape = [
            "--date=iso-strict",
            "--format=%h %ad %an%n    %s",
            f"--max-count={int(str(asked.get('limit', _LIMIT)))}",
        ]
        grep = [f"--grep={asked['grep']}", "--fixed-strings"] if asked.get("grep") else []
        last = revisions(rev or "HEAD")
        return ["log", "--no-show-signature", "--no-mailmap", *shape, *grep, *_PLAIN, "--end-of-options", *last, *paths]
    if command == "diff":
        last_commit, first = revisions(rev if ".." in rev else f"{rev or 'HEAD~1'}..HEAD")
        return ["diff", "--stat", "--patch", *_PLAIN, "--end-of-options", first.removeprefix("^"), last_commit, *paths]
    shape = ["--date=iso-strict", "--format=medium", "--stat", "--patch", "--no-show-signature", "--no-mailmap"]
    return ["show", *shape, *_PLAIN, "--end-of-options", commit(rev or "HEAD"), *paths]


def revisions(said: str) -> list[str]:
    """Return [last], or a range as [last, ^first]."""
    first, dots, last = said.partition("..")
    if not dots:
        return [commit(said)]
    return [commit(last.lstrip(".") or "HEAD"), f"^{commit(first or 'HEAD')}"]


def commit(said: str) -> str:
    """Return a revision that can only resolve to a commit, so that blobs cannot be read by their hash.

    Raises ValueError.
    """
    if not _REVISION.fullmatch(said) or ".." in said or len(said) > MAX_REF_BYTES:
        raise ValueError(f"'{said[:80]}' is no revision")
    return f"{said}^{{commit}}"


if __name__ == "__main__":
    sys.exit(main())
