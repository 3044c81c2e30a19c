"""Access to derived texts: a context, a window, a response or an evaluation, made from other files. Pure."""

from collections.abc import Callable, Collection

from ctxfs.model.path import Path
from ctxfs.model.principal import Principal


def may_read_derived(
    reader: Principal | None,
    made_for: Collection[str],
    sources: Collection[Path] | None,
    may_read: Callable[[Path], bool],
) -> bool:
    """Return True if `reader` may read a text that was derived from `sources`.

    An unrestricted reader (None) may. Any other reader must be able to read all `sources`. If `sources` is None, the
    record of them is missing; then persons, and the principals in `made_for`, may read the text unless a credential
    narrows them.
    """
    if reader is None:
        return True
    if sources is None:
        return not reader.grant and (reader.is_person or str(reader) in made_for)
    return all(map(may_read, sources))
