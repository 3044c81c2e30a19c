"""The mount human/: reviews that wait for a person, as files of the work tree; a write to `verdict` decides.

human/review/<id>/ contains `claim.md`, `evidence.md` and an empty `verdict`. A person decides by writing `accept`,
`reject` or `edit …` into it; `outcome.json` then contains the result.
"""

from collections.abc import Mapping, Sequence

from ctxfs.context.grounding.review import Curator
from ctxfs.model.change import Change, Put
from ctxfs.model.entry import Entry
from ctxfs.model.errors import not_permitted
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.vfs.caller_context import acting_principal

_REVIEW = "review"
_VERDICT = "verdict"
_RECORDS = ("about.json", "outcome.json")


class ReviewMount(Mount):
    """The folder `human/`, in which written verdicts are applied."""

    def __init__(self, folder: Mount, curator: Curator) -> None:
        self._folder = folder
        self._curator = curator

    async def stat(self, path: Path) -> Entry:
        """Implement `Mount.stat` by the folder."""
        return await self._folder.stat(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Implement `Mount.list` by the folder."""
        return await self._folder.list(path)

    async def read(self, path: Path) -> bytes:
        """Implement `Mount.read` by the folder."""
        return await self._folder.read(path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Implement `Mount.metadata` by the folder."""
        return await self._folder.metadata(path)

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
        await self._folder.apply(change)
