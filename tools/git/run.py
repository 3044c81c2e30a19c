"""Log, diff and show of a git repository, as far as they concern one folder. Arguments as JSON on stdin; what git says on stdout.

The repository is not trusted: nothing that its configuration or attributes name is run, nothing is fetched, and nothing outside the
folder is shown.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
}
_SAFE = (
    "safe.directory=*",
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.quotePath=false",
    "log.showSignature=false",
    "diff.submodule=short",
    "protocol.allow=never",
)
_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv")
_LIMIT = 20
_REVISION = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9._/~^@{}+-]*"
)  # no `:`, which would name a file anywhere in the repository


def main() -> int:
    """Exit code 1 with git's reason on stderr."""
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    try:
        check_repository(asked["repo"])
        said = run(asked["repo"], arguments(asked))
    except ValueError as error:
        print(f"git: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(said or b"nothing\n")
    return 0


def run(folder: str, arguments: list[str]) -> bytes:
    """What git prints. ValueError says why it prints nothing."""
    options = [option for each in _SAFE for option in ("-c", each)]
    command = ["git", *options, "-C", folder, "--no-pager", *arguments]
    try:
        done = subprocess.run(command, env={**os.environ, **_ENVIRONMENT}, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ValueError("git is not installed") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it failed"]
        raise ValueError(lines[-1].removeprefix("fatal: "))
    return done.stdout


def check_repository(folder: str) -> None:
    """ValueError unless the folder lies in a work tree whose repository is in it: a `.git` file could lead anywhere."""
    said = run(folder, ["rev-parse", "--show-toplevel", "--absolute-git-dir"]).decode("utf-8", "surrogateescape")
    top, repository = said.rstrip("\n").split("\n")
    place = Path(top) / ".git"
    if Path(repository) != place or place.is_symlink() or not place.is_dir():
        raise ValueError("its repository lies elsewhere")


def arguments(asked: dict[str, object]) -> list[str]:
    """What git is asked. ValueError for what is no revision, or a path that leads out of the folder."""
    command, rev = str(asked["command"]), str(asked.get("rev", ""))
    path = PurePosixPath(str(asked.get("path") or "."))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("the path leads out of the folder")
    paths = ["--", str(path)]
    if command == "log":
        shape = ["--date=iso-strict", "--format=%h %ad %an%n    %s", f"--max-count={asked.get('limit', _LIMIT)}"]
        grep = [f"--grep={asked['grep']}", "--fixed-strings"] if asked.get("grep") else []
        return [
            "log",
            "--no-show-signature",
            *shape,
            *grep,
            *_PLAIN,
            "--end-of-options",
            *revisions(rev or "HEAD"),
            *paths,
        ]
    if command == "diff":
        last, first = revisions(rev if ".." in rev else f"{rev or 'HEAD~1'}..HEAD")
        return ["diff", "--stat", "--patch", *_PLAIN, "--end-of-options", first.removeprefix("^"), last, *paths]
    shape = ["--date=iso-strict", "--stat", "--patch", "--no-show-signature"]
    return ["show", *shape, *_PLAIN, "--end-of-options", commit(rev or "HEAD"), *paths]


def revisions(said: str) -> list[str]:
    """A revision, or a range as what is in the last and not in the first: [last, ^first]."""
    first, dots, last = said.partition("..")
    if not dots:
        return [commit(said)]
    return [commit(last.lstrip(".") or "HEAD"), f"^{commit(first or 'HEAD')}"]


def commit(said: str) -> str:
    """A revision that can only be a commit: what is in a file is not shown by its number."""
    if not _REVISION.fullmatch(said) or ".." in said:
        raise ValueError(f"'{said[:80]}' is no revision")
    return f"{said}^{{commit}}"


if __name__ == "__main__":
    sys.exit(main())
