"""Start git processes, with an environment and a configuration of ctxfs. No other module starts git.

git inherits no `GIT_*` variable of the caller. It reads neither the user's nor the system's configuration, templates,
hooks or attributes, because they redirect it to other repositories and start programs. Commands that reach a remote
inherit the rest of the environment, since ssh needs it. They also get the keys of the user's configuration with which
a remote is reached and the user is authenticated.
"""

import ctypes
import errno
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as HostPath
from typing import IO, Any

from ctxfs.model.credentials import without_passwords
from ctxfs.model.errors import path_error

Argument = str | bytes

_INHERITED_VARIABLES = ("PATH", "TMPDIR", "LD_LIBRARY_PATH")
_INHERITED_REMOTE_VARIABLES = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|(PROXY_)?SSL_(CAINFO|CAPATH|CERT|KEY))"
)
_FIXED_VARIABLES = {
    "LC_ALL": "C",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_REMOTE_PROTOCOLS = "file:git:http:https:ssh"
# Each overrides the repository's own configuration. `true` prints no refs; an empty command would run its argument.
_CONFIGURATION = {
    "commit.gpgSign": "false",
    "core.alternateRefsCommand": "true",
    "core.attributesFile": os.devnull,
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "push.gpgSign": "false",
    "tag.gpgSign": "false",
}
# Keys of the user's configuration that commands for remotes receive.
_REMOTE_KEYS = re.compile(
    r"credential\..+|http\..+|core\.(sshcommand|askpass)|ssh\.variant|safe\.directory|url\..+\.(insteadof|pushinsteadof)"
)
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


def start_git(
    arguments: Sequence[Argument],
    *,
    repo: HostPath,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] = subprocess.PIPE,
    stderr: int | IO[Any] = subprocess.PIPE,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a git command on the bare repository `repo`. `prefix` goes before `git`, such as `nice`."""
    options = [word for name, value in _CONFIGURATION.items() for word in ("-c", f"{name}={value}")]
    return subprocess.Popen(
        [*prefix, "git", "--no-pager", *options, f"--git-dir={repo}", *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=dict(environment) if environment is not None else local_environment(),
        cwd=repo if repo.is_dir() else repo.parent,
        preexec_fn=before,
    )


def run_git(arguments: Sequence[Argument], *, repo: HostPath, data: bytes | None = None, remote: bool = False) -> bytes:
    """Run a git command and return its output. Raise OSError EIO with git's error text if it fails.

    With `remote` the command reaches another repository, and gets the user's environment and configuration for that.
    """
    return _run(arguments, repo, data, environment=remote_environment() if remote else None)


def run_maintenance(arguments: Sequence[Argument], *, repo: HostPath) -> None:
    """Run a git command that deletes or moves objects, at low priority.

    It does not outlive this process: the next owner of the store must not find objects vanish.
    """
    _run(arguments, repo, None, prefix=("nice", "-n", "10"), before=_set_parent_death_signal)


def _run(arguments: Sequence[Argument], repo: HostPath, data: bytes | None, **options: Any) -> bytes:
    # Input and error output are files, not pipes: the one pipe left is read to its end without a deadlock.
    with tempfile.TemporaryFile() as input_file, tempfile.TemporaryFile() as error_file:
        input_file.write(data or b"")
        input_file.seek(0)
        with start_git(arguments, repo=repo, stdin=input_file, stderr=error_file, **options) as process:
            assert process.stdout is not None
            out = process.stdout.read()
        if process.returncode:
            error_file.seek(0)
            message = error_file.read().decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise path_error(errno.EIO, str(repo), f"git: {without_passwords(message)}")
    return out


def local_environment() -> dict[str, str]:
    """Return the environment of commands that stay within the repository."""
    inherited = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    return {**inherited, **_FIXED_VARIABLES, "GIT_ALLOW_PROTOCOL": ""}


def remote_environment() -> dict[str, str]:
    """Return the environment of commands that reach a remote: the caller's, without variables that redirect git."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or _INHERITED_REMOTE_VARIABLES.fullmatch(name)
    }
    environment = {**inherited, **_FIXED_VARIABLES, "GIT_ALLOW_PROTOCOL": _REMOTE_PROTOCOLS}
    pairs = _user_configuration(environment)
    environment["GIT_CONFIG_COUNT"] = str(len(pairs))
    for number, (key, value) in enumerate(pairs):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return environment


def _user_configuration(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the keys and values of the user's and the system's configuration that a remote needs."""
    hidden = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM")
    visible = {name: value for name, value in environment.items() if name not in hidden}
    pairs = []
    for scope in ("--system", "--global"):
        result = subprocess.run(
            ["git", "config", scope, "--includes", "--list", "-z"], env=visible, cwd="/", capture_output=True
        )
        for item in result.stdout.decode("utf-8", "surrogateescape").split("\0"):
            key, _, value = item.partition("\n")
            if _REMOTE_KEYS.fullmatch(key):
                pairs.append((key, value))
    return pairs


def build_service_command(service: str) -> str:
    """Return the command that serves a repository in a local folder, without its hooks and without a work tree of it.

    The repository may belong to an attacker: its own configuration must not start a program on this machine.
    """
    options = {**_CONFIGURATION, "receive.denyCurrentBranch": "refuse"}
    return " ".join(["git", *(f"-c {name}={value}" for name, value in options.items()), service])


def _set_parent_death_signal() -> None:
    if _PRCTL is not None:
        _PRCTL(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
