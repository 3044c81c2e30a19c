"""The mount human/: reviews that wait for a person, as files of the work tree; a write to `verdict` decides.

human/review/<id>/ contains `claim.md`, `evidence.md` and an empty `verdict`; of a proposal `change.diff`, `why.md` and
`evidence.jsonl` instead. A person decides by writing `accept`, `reject` or (of a claim) `edit …` into it; `outcome.json`
then contains the result.
"""

from ctxfs.context.grounding.review import Curator
from ctxfs.model.change import Change, Put
from ctxfs.model.errors import not_permitted
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path
from ctxfs.vfs.caller_context import acting_principal
from ctxfs.vfs.mount_wrapper import MountWrapper

_REVIEW = "review"
_VERDICT = "verdict"
_RECORDS = ("about.json", "outcome.json", "change.diff", "why.md", "evidence.jsonl")


class ReviewMount(MountWrapper):
    """The folder `human/`, in which written verdicts are applied."""

    def __init__(self, folder: Mount, curator: Curator) -> None:
        super().__init__(folder)
        self._curator = curator

    def backing(self, path: Path) -> Backing | None:
        """Return None, so that adapters cannot write a verdict to its host file directly."""
        return None

    async def apply(self, change: Change) -> None:
        """Apply a change to the folder; a verdict is decided, and records of reviews are read-only."""
        path, principal = change.path, acting_principal()
        in_review = len(path.parts) == 3 and path.parts[0] == _REVIEW
        if principal is not None and in_review:  # the curator itself acts without a principal
            if path.name in _RECORDS:
                raise not_permitted(path, "a record of the review; write the verdict")
            if path.name == _VERDICT and isinstance(change, Put) and change.data.strip():
                await self._curator.decide(path.parts[1], change.data, str(principal))
                return
        await self._tree.apply(change)
