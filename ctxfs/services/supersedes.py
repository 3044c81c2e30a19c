"""The effect of a `supersedes` attribute: none unless the principal that set it may change the superseded file."""

from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.model.principal import parse_principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.services.sources import SettingsFile
from ctxfs.store.layout import is_versioned
from ctxfs.versions.version_reader import VersionReader
from ctxfs.vfs.caller_context import acting_principal

_MAX_CACHED = 10_000


class Supersedes:
    """Judges `supersedes` by the versions of the file that has it. Blocks."""

    def __init__(self, settings: SettingsFile, versions: VersionReader, policy: PolicyEngine) -> None:
        self._settings = settings
        self._versions = versions
        self._policy = policy
        self._setters: dict[tuple[str, str], tuple[str, str]] = {}  # claim → (newest version of its file, setter)

    def binds(self, new: str, old: str) -> bool:
        """Return True if the file `new` replaces `old` in contexts: its setter may change `old`, or is the calling principal."""
        path = Path.parse(new)
        if not is_versioned(path):
            sources = self._settings.current.sources
            source = next((source for source in sources if path.parts[:2] == ("knowledge", source.name)), None)
            is_same_source = Path.parse(old).parts[:2] == path.parts[:2]
            return is_same_source or (source is not None and not source.writable)  # then people maintain it
        setter = self._setter(new, old)
        if not setter:
            return False
        principal, caller = parse_principal(setter), acting_principal()
        return (
            principal.is_person
            or (caller is not None and str(caller) == setter)
            or self._policy.is_allowed(principal, Verb.WRITE, Path.parse(old))
        )

    def _setter(self, path: str, old: str) -> str:
        """Return the principal that set the present value, by the versions; empty until a version has it."""
        last = self._versions.last_change(path)
        if last is None:
            return ""
        cached = self._setters.get((path, old))
        if cached is not None and cached[0] == last.oid:
            return cached[1]
        setter = ""
        for version in reversed(self._versions.versions(path)):
            value = self._versions.attributes_of(version)[1].get(f"{PREFIX}supersedes", b"") if version.is_file else b""
            if value.decode("utf-8", "replace").strip().strip("/") != old:
                break
            setter = version.commit.actor.principal
        if len(self._setters) >= _MAX_CACHED:
            self._setters.clear()
        self._setters[path, old] = (last.oid, setter)
        return setter
