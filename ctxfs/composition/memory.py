"""The parts for the life of memories that search, contexts and reviews need."""

from ctxfs.composition.store_parts import StoreParts
from ctxfs.consolidation.desk import KIND as PROPOSAL
from ctxfs.consolidation.desk import TOOL as DESK_TOOL
from ctxfs.consolidation.desk import ProposalDesk
from ctxfs.context.build.tree_view import SourceResolver
from ctxfs.context.grounding.review import Curator, Decider
from ctxfs.model.mount import Mount
from ctxfs.services.branch_files import BranchFiles
from ctxfs.services.branch_reviews import KIND as BRANCH
from ctxfs.services.branch_reviews import TOOL as BRANCH_TOOL
from ctxfs.services.branch_reviews import BranchReviews
from ctxfs.services.citations import Citations
from ctxfs.services.cited_sources import CitedSources
from ctxfs.services.conflict_desk import KIND as CONFLICT
from ctxfs.services.conflict_desk import ConflictDesk
from ctxfs.services.conflict_files import ConflictFiles
from ctxfs.services.curation import JudgedLines
from ctxfs.services.elicitation import Elicitation
from ctxfs.services.file_marks import FileMarker
from ctxfs.services.kind_remarks import KindRemarks
from ctxfs.services.memory_changes import MemoryChanges
from ctxfs.services.memory_remarks import MemoryRemarks
from ctxfs.services.moved_text import MovedText
from ctxfs.services.pad_expiry import PadExpiry
from ctxfs.store.memory_file import MemoryFile


class MemoryParts:
    """Citations, proposals and reviews, changes by commands, remarks on kinds and conflicts, and the expiry of pads."""

    def __init__(
        self, store: StoreParts, rules: MemoryFile, resolver: SourceResolver, tree: Mount, conflicts: ConflictFiles
    ) -> None:
        searcher, archive = store.searcher, store.archive
        self.rules = rules
        branch_files = BranchFiles(archive.branches, store.scope)
        sources = CitedSources(store.namespace, str(store.layout.history), store.scope, searcher.extract, branch_files)
        moved = MovedText(
            store.namespace, sources, searcher, archive.reader, FileMarker(store.layout.citation_key), store.scope
        )
        self.citations = Citations(store.namespace, sources, moved, searcher, store.scope)
        desk_tree = store.tree_of(DESK_TOOL)
        self.desk = ProposalDesk(desk_tree, archive, store.policy, lambda: rules.rules.transitions)
        self.branch_reviews = BranchReviews(
            store.tree_of(BRANCH_TOOL), archive.branches, store.policy, lambda: rules.rules.transitions
        )
        judged = JudgedLines(resolver, self.citations)
        self.conflict_desk = ConflictDesk(store.tree_of("review"), tree, archive, conflicts)
        deciders: dict[str, Decider] = {PROPOSAL: self.desk, CONFLICT: self.conflict_desk}
        deciders[BRANCH] = self.branch_reviews
        self.curator = Curator(store.tree_of("evaluator"), deciders, judged)
        self.elicitation = Elicitation(self.curator)
        self.remarks = MemoryRemarks(searcher)
        self.kind_remarks = KindRemarks(store.layout.tree, rules)
        self.changes = MemoryChanges(self.remarks, self.citations, self.desk, archive, lambda: rules.rules.kinds)
        expiry_tree = store.tree_of("expiry")
        self.pad_expiry = PadExpiry(store.namespace, expiry_tree, lambda: rules.rules.pad.expire_seconds)
