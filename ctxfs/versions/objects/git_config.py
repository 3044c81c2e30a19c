"""The configuration file of the store's repository: fixed settings and the addresses of remotes.

A process that can write that file could make git start programs. So all other keys are dropped when the repository is
opened.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.store.durable_file import replace_text
from ctxfs.versions.objects.git_process import run_git

log = logging.getLogger(__name__)

_HIDDEN_REF = "refs/heads/main"  # a push from outside would move it without the work tree
_SETTINGS = f"""\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tlogAllRefUpdates = false
\tfsync = all
[gc]
\tauto = 0
[pack]
\tthreads = 1
\twindowMemory = 100m
[receive]
\thideRefs = {_HIDDEN_REF}
[transfer]
\tfsckObjects = true
[user]
\tname = ctxfs
\temail = ctxfs@localhost
"""
_REMOTE_BLOCK = re.compile(
    r'\[remote "([A-Za-z0-9._-]+)"\]\n\turl = "((?:[^"\\\n]|\\["\\])*)"\n(\tctxfsTrusted = true\n)?'
)
_FIXED_KEYS = {
    f"{section.partition(']')[0]}.{line.partition(' =')[0].strip()}".lower()
    for section in _SETTINGS.split("[")[1:]
    for line in section.splitlines()[1:]
}


@dataclass(frozen=True, slots=True)
class Remote:
    """The address of a remote; with `is_trusted`, its history is trusted like the store's own."""

    url: str
    is_trusted: bool = False


def read_remotes(repo: HostPath) -> dict[str, Remote]:
    """Return each remote by its name."""
    remotes = _parse_remotes((repo / "config").read_text(encoding="utf-8", errors="surrogateescape"))
    return remotes if remotes is not None else _read_foreign_remotes(repo)


def write_remotes(repo: HostPath, remotes: Mapping[str, Remote]) -> None:
    """Replace the configuration with the fixed settings and these remotes."""
    blocks = []
    for name, remote in sorted(remotes.items()):
        blocks.append(f'[remote "{name}"]\n\turl = "{_quote(remote.url)}"\n')
        blocks += ["\tctxfsTrusted = true\n"] if remote.is_trusted else []
    replace_text(repo / "config", _SETTINGS + "".join(blocks))


def restrict_configuration(repo: HostPath) -> None:
    """Drop every key that ctxfs does not set."""
    if _parse_remotes((repo / "config").read_text(encoding="utf-8", errors="surrogateescape")) is None:
        write_remotes(repo, _read_foreign_remotes(repo, warn=True))


def _parse_remotes(text: str) -> dict[str, Remote] | None:
    """Return the remotes in a text that `write_remotes` made; None for any other text."""
    if not text.startswith(_SETTINGS):
        return None
    offset, remotes = len(_SETTINGS), dict[str, Remote]()
    while offset < len(text):
        block = _REMOTE_BLOCK.match(text, offset)
        if block is None:
            return None
        remotes[block[1]] = Remote(re.sub(r"\\(.)", r"\1", block[2]), bool(block[3]))
        offset = block.end()
    return remotes


def _read_foreign_remotes(repo: HostPath, *, warn: bool = False) -> dict[str, Remote]:
    """Return the remotes of a configuration that git or an earlier ctxfs wrote. None of them is trusted."""
    out = run_git(["config", "--file", str(repo / "config"), "--no-includes", "--list", "-z"], repo=repo)
    remotes, dropped = dict[str, Remote](), list[str]()
    for item in out.decode("utf-8", "replace").split("\0"):
        key, _, value = item.partition("\n")
        block = re.fullmatch(r"remote\.([A-Za-z0-9._-]+)\.url", key)
        if block is not None and value.isprintable():
            remotes.setdefault(block[1], Remote(value))
        elif key and key not in _FIXED_KEYS:
            dropped.append(key)
    if dropped and warn:
        log.warning("settings in '%s' are dropped: %s", repo / "config", ", ".join(sorted(dropped)))
    return remotes


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
