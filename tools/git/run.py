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
_DEFAULT_LOG_ENTRIES = 20

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
_PLAIN_OUTPUT = ("--no-color", "--no-ext-diff", "--no-textconv")
_ELSEWHERE = "its repository lies elsewhere"


def main() -> int:
    """Print git's output; return exit code 1, with the reason on stderr, for any failure."""
    try:
        request = json.loads(sys.stdin.buffer.read() or b"{}")
        with tempfile.TemporaryDirectory(prefix="git-") as scratch, contextlib.ExitStack() as stack:
            clean = CleanRepository(Path(scratch) / "git", stack)
            prefix = clean.copy_from(str(request["repo"]), os.environ.get("CTXFS_CEILING", ""))
            output = clean.run(build_arguments(request, prefix))
    except (ValueError, OSError, MemoryError) as error:
        message = error.strerror if isinstance(error, OSError) else str(error)
        print(f"git: {' '.join((message or type(error).__name__).split())[:300]}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(output or b"nothing\n")
    return 0


class CleanRepository:
    """A git directory at `path` with the checked content of another one. `stack` holds descriptors open."""

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self._path = path
        self._stack = stack
        self._packs: list[int] = []
        self._shallow: list[str] = []

    def copy_from(self, folder: str, ceiling: str) -> str:
        """Copy the repository that contains `folder`; return the folder's path in it.

        The search for it ends below `ceiling`. Raises ValueError and OSError.
        """
        repository, prefix = self._find_repository(folder, ceiling)
        for name in ("objects/pack", "objects/info", "refs"):
            (self._path / name).mkdir(parents=True)
        head, refs = _read_text(repository, "HEAD", MAX_REF_BYTES), _read_refs(repository)
        width = self._write_refs(head, refs)
        version = 1 if width == 64 else 0
        extensions = "[extensions]\n\tobjectFormat = sha256\n" if width == 64 else ""
        (self._path / "config").write_text(_CONFIG.format(version=version) + extensions)
        objects = self._directory("objects", repository)
        for name in ("alternates", "http-alternates"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.stat(f"info/{name}", dir_fd=objects, follow_symlinks=False)
                raise ValueError("its objects are borrowed from another repository")
        self._link_packs(objects)
        self._copy_loose(objects)
        self._shallow = _HEX.findall(_read_text(repository, "shallow", 65 * MAX_SHALLOW_COMMITS) or "")[
            :MAX_SHALLOW_COMMITS
        ]
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

    def _find_repository(self, folder: str, ceiling: str) -> tuple[int, str]:
        """Return (descriptor of the nearest `.git` above, path of `folder` relative to its directory).

        Raises ValueError.
        """
        parts = PurePosixPath(os.path.abspath(folder)).parts
        descriptors = [self._directory("/")]
        for name in parts[1:]:
            descriptors.append(self._directory(name, descriptors[-1]))
        for depth in range(len(parts), 0, -1):
            if ceiling and PurePosixPath(*parts[:depth]) == PurePosixPath(ceiling):
                break
            with contextlib.suppress(FileNotFoundError):
                os.stat(".git", dir_fd=descriptors[depth - 1], follow_symlinks=False)
                return self._directory(".git", descriptors[depth - 1]), "/".join(parts[depth:])
        raise ValueError("it lies in no repository")

    def _write_refs(self, head: str | None, refs: dict[str, str]) -> int:
        """Write HEAD and the refs of its hash length; return that length."""
        head_text = (head or "").strip()
        ref = head_text.removeprefix("ref: ").strip()
        if _HEX.fullmatch(head_text):
            head_oid = head_text
        elif head_text.startswith("ref: ") and _REF.fullmatch(ref) and ref in refs:
            head_oid = refs[ref]
        else:
            raise ValueError("its HEAD names no commit: it may have none, or keep its refs in another form")
        same_width = {name: oid for name, oid in refs.items() if len(oid) == len(head_oid)}
        lines = [f"{oid} {name}\n" for name, oid in sorted(same_width.items())]
        (self._path / "packed-refs").write_text("# pack-refs with: sorted \n" + "".join(lines))
        (self._path / "HEAD").write_text(f"{head_oid}\n")
        return len(head_oid)

    def _link_packs(self, objects: int) -> None:
        """Link the packs by descriptor, so that git reads the files opened now, without a copy."""
        try:
            folder = self._directory("pack", objects)
        except ValueError:
            if "pack" in os.listdir(objects):
                raise
            return
        names = set(filter(_PACK.fullmatch, os.listdir(folder)))
        packs = sorted(name for name in names if name.endswith(".pack") and f"{name[:-5]}.idx" in names)
        if len(packs) > MAX_PACKS:
            raise ValueError(f"it has more than {MAX_PACKS} packs: git gc makes them one")
        for name in (file for pack in packs for file in (pack, f"{pack[:-5]}.idx")):
            fd = _open_file(folder, name)
            self._stack.callback(os.close, fd)
            self._packs.append(fd)
            os.symlink(f"/proc/self/fd/{fd}", self._path / "objects" / "pack" / name)

    def _copy_loose(self, objects: int) -> None:
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
                    data = _read_file(folder, name, MAX_LOOSE_BYTES - total)
                    count, total = count + 1, total + len(data)
                    if count > MAX_LOOSE_OBJECTS:
                        raise ValueError(f"it has more than {MAX_LOOSE_OBJECTS} objects in no pack: git gc packs them")
                    target = self._path / "objects" / start
                    target.mkdir(exist_ok=True)
                    (target / name).write_bytes(data)
            finally:
                os.close(folder)

    def _write_shallow(self) -> None:
        """Write the commits whose parents are all missing, as in a shallow clone; history may end at no others."""
        headers = self._git(["cat-file", "--batch"], "".join(f"{oid}\n" for oid in self._shallow).encode())
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
        parent_ids = sorted({oid for parent_list in parents.values() for oid in parent_list})
        checked = self._git(["cat-file", "--batch-check"], "".join(f"{oid}\n" for oid in parent_ids).encode()).decode()
        missing = {line.split(" ")[0] for line in checked.splitlines() if line.endswith(" missing")}
        boundary = [oid for oid, parent_list in parents.items() if parent_list and missing.issuperset(parent_list)]
        if boundary:
            (self._path / "shallow").write_text("".join(f"{oid}\n" for oid in boundary))

    def _git(self, arguments: list[str], input_data: bytes = b"") -> bytes:
        home = {"HOME": str(self._path), "XDG_CONFIG_HOME": str(self._path), "GIT_DIR": str(self._path)}
        environment = {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **home}
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as complaints:
            stdin.write(input_data)
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    ["git", *arguments],
                    cwd=self._path,
                    env=environment,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    pass_fds=self._packs,
                )
            except FileNotFoundError as error:
                raise ValueError("git is not installed") from error
            assert process.stdout is not None
            try:
                output = process.stdout.read(MAX_OUTPUT_BYTES + 1)
                if len(output) > MAX_OUTPUT_BYTES:
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
        return output


def _open_file(folder: int, name: str) -> int:
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


def _read_file(folder: int, name: str, max_bytes: int) -> bytes:
    """Return the content of a regular file. Raises ValueError if it exceeds `most` bytes."""
    fd = _open_file(folder, name)
    with open(fd, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError("its files are too large: git gc packs them")
    return data


def _read_text(folder: int, name: str, max_bytes: int) -> str | None:
    """Return a small text file; None if it is absent."""
    try:
        return _read_file(folder, name, max_bytes).decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _read_refs(repository: int) -> dict[str, str]:
    """Return plain names of branches, tags and remote branches with their hashes; loose files override packed-refs."""
    refs: dict[str, str] = {}
    for line in (_read_text(repository, "packed-refs", MAX_REFS_BYTES) or "").split("\n"):
        oid, _, name = line.partition(" ")
        if _HEX.fullmatch(oid) and _is_ref(name):
            refs[name] = oid
    for name, content in _loose_refs(repository):
        if _HEX.fullmatch(content):
            refs[name] = content
    if len(refs) > MAX_REFS:
        raise ValueError(f"it has more than {MAX_REFS} branches and tags")
    return refs


def _is_ref(name: str) -> bool:
    return len(name) < MAX_REF_BYTES and bool(_REF.fullmatch(name)) and ".." not in name and "@{" not in name


def _loose_refs(repository: int) -> Iterator[tuple[str, str]]:
    """Yield (name, content) of the files below `refs/`, within limits of depth and number."""
    count = 0
    pending = [("refs", 0)]
    while pending:
        folder_path, depth = pending.pop()
        try:
            folder = _open_beneath(repository, folder_path)
        except OSError:
            continue
        try:
            for name in os.listdir(folder):
                count += 1
                if count > MAX_REFS:
                    raise ValueError(f"it has more than {MAX_REFS} branches and tags")
                path = f"{folder_path}/{name}"
                with contextlib.suppress(OSError):
                    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                        if depth < MAX_REF_DEPTH:
                            pending.append((path, depth + 1))
                    elif _is_ref(path):
                        with contextlib.suppress(ValueError):
                            yield path, _read_file(folder, name, MAX_REF_BYTES).decode("ascii", "replace").strip()
        finally:
            os.close(folder)


def _open_beneath(repository: int, path: str) -> int:
    """Return a descriptor of a directory below another one; no component may be a link."""
    fd = os.dup(repository)
    for name in path.split("/"):
        try:
            deeper = os.open(name, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def build_arguments(request: dict[str, object], prefix: str) -> list[str]:
    """Return git's arguments. Raises ValueError for an invalid revision, and for a path that leaves the folder."""
    command, rev = str(request["command"]), str(request.get("rev", ""))
    path = PurePosixPath(str(request.get("path") or "."))
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError("the path leads out of the folder")
    paths = ["--", str(PurePosixPath(prefix) / path)]
    if command == "log":
        shape = [
            "--date=iso-strict",
            "--format=%h %ad %an%n    %s",
            f"--max-count={int(str(request.get('limit', _DEFAULT_LOG_ENTRIES)))}",
        ]
        grep = [f"--grep={request['grep']}", "--fixed-strings"] if request.get("grep") else []
        last = parse_revisions(rev or "HEAD")
        return [
            "log",
            "--no-show-signature",
            "--no-mailmap",
            *shape,
            *grep,
            *_PLAIN_OUTPUT,
            "--end-of-options",
            *last,
            *paths,
        ]
    if command == "diff":
        last_commit, first = parse_revisions(rev if ".." in rev else f"{rev or 'HEAD~1'}..HEAD")
        return [
            "diff",
            "--stat",
            "--patch",
            *_PLAIN_OUTPUT,
            "--end-of-options",
            first.removeprefix("^"),
            last_commit,
            *paths,
        ]
    shape = ["--date=iso-strict", "--format=medium", "--stat", "--patch", "--no-show-signature", "--no-mailmap"]
    return ["show", *shape, *_PLAIN_OUTPUT, "--end-of-options", commit_expression(rev or "HEAD"), *paths]


def parse_revisions(text: str) -> list[str]:
    """Return [last], or a range as [last, ^first]."""
    first, dots, last = text.partition("..")
    if not dots:
        return [commit_expression(text)]
    return [commit_expression(last.lstrip(".") or "HEAD"), f"^{commit_expression(first or 'HEAD')}"]


def commit_expression(text: str) -> str:
    """Return a revision that can only resolve to a commit, so that blobs cannot be read by their hash.

    Raises ValueError.
    """
    if not _REVISION.fullmatch(text) or ".." in text or len(text) > MAX_REF_BYTES:
        raise ValueError(f"'{text[:80]}' is no revision")
    return f"{text}^{{commit}}"


if __name__ == "__main__":
    sys.exit(main())
