"""The parts of a store that its other parts are built from."""

from dataclasses import dataclass

from ctxfs.index.search.searcher import Searcher
from ctxfs.model.principal import Principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.curation import CuratedTree
from ctxfs.store.layout import Layout
from ctxfs.versions.archive import Archive
from ctxfs.vfs.namespace import Namespace


@dataclass(frozen=True, slots=True)
class StoreParts:
    """The layout, versions, rules, index and namespace of a store; `principal` owns it."""

    layout: Layout
    principal: Principal
    archive: Archive
    policy: PolicyEngine
    scope: CallerScope
    searcher: Searcher
    namespace: Namespace

    def tree_of(self, tool: str) -> CuratedTree:
        """Return the tree without access control, for sessions of a tool of ctxfs."""
        return CuratedTree(self.namespace, self.archive, self.principal, tool)
