"""Views of the event log as filters: `by-session/` and `by-agent/` have links to files, which the index lacks. Pure.

A search below a view is a search of the records that it selects. Hits are cited by the files of the days.
"""

from dataclasses import dataclass, replace

from ctxfs.eventlog.log import SUFFIX, is_day
from ctxfs.eventlog.record_schema import principal_of_folder
from ctxfs.index.extract.session_parts import PRINCIPAL_LABEL, SESSION_LABEL
from ctxfs.index.query import Query
from ctxfs.model.path import Path

_AREA = "history"
_BY_SESSION, _BY_AGENT = "by-session", "by-agent"


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of the tree below a directory; `session` and `principal` select records if they are not empty."""

    below: Path
    session: str = ""
    principal: str = ""

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Return the labels that the selected records have."""
        pairs = ((SESSION_LABEL, self.session), (PRINCIPAL_LABEL, self.principal))
        return tuple(pair for pair in pairs if pair[1])

    def contains(self, path: str) -> bool:
        """Return True if a file of the tree can have selected lines."""
        if self.session and not path.endswith(f"/{self.session}{SUFFIX}"):
            return False
        return self.below.is_root or path == str(self.below) or path.startswith(f"{self.below}/")


def select_records(query: Query, below: Path) -> tuple[Query, Path]:
    """Return (query, directory) with filters in place of a view."""
    selection = selection_of(below)
    return replace(query, attributes=(*query.attributes, *selection.labels)), selection.below


def selection_of(below: Path) -> Selection:
    """Return the selection of a directory: of a view, or a link in it, records in the files of the days."""
    match below.parts:
        case (area, view) if area == _AREA and view in (_BY_SESSION, _BY_AGENT):
            return Selection(Path((_AREA,)))
        case (area, view, session) if area == _AREA and view == _BY_SESSION:
            return Selection(Path((_AREA,)), session=session)
        case (area, view, folder) if area == _AREA and view == _BY_AGENT:
            return Selection(Path((_AREA,)), principal=principal_of_folder(folder))
        case (area, view, session, link) if area == _AREA and view == _BY_SESSION and is_day(_stem_of(link)):
            return Selection(Path((_AREA, _stem_of(link), f"{session}{SUFFIX}")))
        case (area, view, folder, link) if area == _AREA and view == _BY_AGENT and is_day(link.partition("_")[0]):
            day, _, file = link.partition("_")
            return Selection(Path((_AREA, day, file)), principal=principal_of_folder(folder))
    return Selection(below)


def _stem_of(link: str) -> str:
    return link.removesuffix(SUFFIX)
