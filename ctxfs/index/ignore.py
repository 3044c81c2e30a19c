"""Which files of a source are worth indexing: .gitignore files, the source's own patterns, version control's folders."""

import os
from pathlib import Path as HostPath

import pathspec

_ALWAYS = (".git", ".hg", ".svn", ".jj", "__pycache__", "node_modules", ".ctxfs")


class IgnoreRules:
    """The rules of one source, read lazily folder by folder; a .gitignore deeper down is applied after those above."""

    def __init__(self, root: str, exclude: tuple[str, ...], *, gitignore: bool) -> None:
        self._root = root
        self._exclude = pathspec.GitIgnoreSpec.from_lines(exclude) if exclude else None
        self._gitignore = gitignore
        self._specs: dict[tuple[str, ...], pathspec.GitIgnoreSpec | None] = {}

    def forget(self) -> None:
        """Read the .gitignore files again: one of them changed."""
        self._specs.clear()

    def ignores(self, parts: tuple[str, ...], *, directory: bool) -> bool:
        """True when the entry itself is ignored; its ancestors are the walker's business."""
        if parts[-1] in _ALWAYS and self._gitignore:
            return True
        text = "/".join(parts) + ("/" if directory else "")
        if self._exclude is not None and self._exclude.match_file(text):
            return True
        if not self._gitignore:
            return False
        verdict = False
        for depth in range(len(parts)):
            spec = self._spec(parts[:depth])
            if spec is None:
                continue
            below = "/".join(parts[depth:]) + ("/" if directory else "")
            decided = spec.check_file(below).include
            if decided is not None:
                verdict = decided
        return verdict

    def ignores_path(self, parts: tuple[str, ...]) -> bool:
        """True when a file or any folder above it is ignored."""
        return any(self.ignores(parts[: depth + 1], directory=depth + 1 < len(parts)) for depth in range(len(parts)))

    def _spec(self, folder: tuple[str, ...]) -> pathspec.GitIgnoreSpec | None:
        if folder not in self._specs:
            file = HostPath(self._root, *folder, ".gitignore")
            try:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                self._specs[folder] = pathspec.GitIgnoreSpec.from_lines(lines)
            except OSError:
                self._specs[folder] = None
        return self._specs[folder]


def walk(
    root: str, below: tuple[str, ...], rules: IgnoreRules, enough: int | None = None
) -> "list[tuple[tuple[str, ...], os.stat_result]]":
    """Regular files under `root`/`below` that are not ignored, with their stat; links are not followed.

    Unreadable folders are passed over: what cannot be read cannot be found. Folders first come first. With `enough` it ends soon
    after it has found more files than that.
    """
    found: list[tuple[tuple[str, ...], os.stat_result]] = []
    pending = [below]
    while pending and (enough is None or len(found) <= enough):
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(os.path.join(root, *folder)), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if enough is not None and len(found) > enough:
                break
            parts = (*folder, entry.name)
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not rules.ignores(parts, directory=True):
                        pending.append(parts)
                elif entry.is_file(follow_symlinks=False) and not rules.ignores(parts, directory=False):
                    found.append((parts, entry.stat(follow_symlinks=False)))
            except OSError:
                continue  # vanished in between
    return found
