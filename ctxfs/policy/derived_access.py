"""Who may read what was made from other files: the text of a context, a window, a response, an evaluation. Pure."""

from collections.abc import Callable, Collection

from ctxfs.model.path import Path
from ctxfs.model.principal import Principal


def may_read_derived(
    reader: Principal | None,
    made_for: Collection[str],
    sources: Collection[Path] | None,
    may_read: Callable[[Path], bool],
) -> bool:
    """True for a reader who may see everything (None), and for one who may read all `sources`.

    `sources` None: the record of them is missing. Then people read the text, and those whom it was made for.
    """
    if reader is None:
        return True
    if sources is None:
        return not reader.grant and (reader.is_person or str(reader) in made_for)
    return all(map(may_read, sources))
