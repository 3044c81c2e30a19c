"""The folders of kinds that memory.toml declares: `memory/<agent>/<kind>/`. The index derives only the built-in ones."""

import os
from collections.abc import Sequence
from pathlib import Path as HostPath

from ctxfs.index.query import KindFolders
from ctxfs.index.search.declared_kinds import DeclaredKinds
from ctxfs.memory.kinds import BUILT_IN_KINDS, kind_by_folder
from ctxfs.model.path import Path, printable
from ctxfs.store import rooted_fs
from ctxfs.store.memory_file import MemoryFile

_AREA = "memory"
_MAX_AGENTS = 10_000


class DeclaredKindFolders(DeclaredKinds):
    """The folders of declared kinds in one store. Calls block for a listing, if a query names such a kind."""

    def __init__(self, tree: HostPath, rules: MemoryFile) -> None:
        """Take the work tree of the store, and the rules of kinds."""
        self._tree = tree
        self._rules = rules

    def folders_of(self, kinds: Sequence[str]) -> KindFolders:
        """Return the folders of those of the kinds that are declared; none for the built-in ones."""
        known = self._rules.rules.kinds
        declared = [kind for kind in kinds if kind in known and kind not in BUILT_IN_KINDS]
        if not declared:
            return KindFolders()
        folders = tuple(f"{_AREA}/{agent}/{kind}" for agent in self._agents() for kind in declared)
        return KindFolders(folders, tuple(kind for kind in known if kind not in declared))

    def kind_of(self, path: str, kind: str) -> str:
        """Return the kind of a file with this path and indexed kind: a kind of its own precedes that of its folder."""
        known = self._rules.rules.kinds
        if kind in known or len(known) == len(BUILT_IN_KINDS):
            return kind
        return kind_by_folder(Path.parse(path).parts, known) or kind

    def _agents(self) -> list[str]:
        try:
            with rooted_fs.listed_directory(str(self._tree), (_AREA,)) as folder:
                return [printable(name) for name in sorted(os.listdir(folder))[:_MAX_AGENTS]]
        except OSError:
            return []
