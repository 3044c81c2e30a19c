"""Noise rules of a source: the noise among its files, with the reason, and the patterns of exceptions."""

from ctxfs.index.extract.gitignore import PatternFile
from ctxfs.index.options import IndexedRoot
from ctxfs.model.noise import CONTENT_NOISE, NoiseClassifier, classify_name, classify_text
from ctxfs.model.path import printable
from ctxfs.store.folder_probe import HostFolders

_MAX_TEXT_BYTES = 64_000  # of a file, by which minified and generated code is recognised
# A pad's own folder belongs to many principals, so that no file in it decides about the others.
_MIN_DEPTHS = {"pad": 2}


class NoiseRules:
    """The noise rules of one source. In memory, only a file's own name and text count, never its folder."""

    def __init__(self, root: IndexedRoot) -> None:
        self._include = PatternFile(root.include) if root.include else None
        self._classifier = None
        if root.prefix != "memory":
            self._classifier = NoiseClassifier(HostFolders(root.root), _MIN_DEPTHS.get(root.prefix, 1))

    def clear_cache(self) -> None:
        """Drop the cached results for folders, because a marker file changed."""
        if self._classifier is not None:
            self._classifier.clear_cache()

    def is_included(self, parts: tuple[str, ...]) -> bool:
        """Return True if the patterns of exceptions match the file, or a folder above it."""
        if self._include is not None:
            for depth in range(len(parts), 0, -1):
                decision = self._include.decide(parts[:depth], is_directory=depth < len(parts))
                if decision is not None:
                    return decision
        return False

    def path_noise(self, parts: tuple[str, ...]) -> str:
        """Return the noise of a file by its path; empty for other files."""
        if self.is_included(parts):
            return ""
        return (self._classifier.classify(parts) if self._classifier else classify_name(parts[-1])) or ""

    def noise(self, parts: tuple[str, ...], data: bytes) -> str:
        """Return the noise of a file by its path, or by the beginning of its content; empty for other files."""
        by_path = self.path_noise(parts)
        if by_path or self.is_included(parts):
            return by_path
        text = data[:_MAX_TEXT_BYTES].decode("utf-8", "replace")  # the patterns are ASCII
        return classify_text(printable(parts[-1]), text) or ""

    def has_changed(self, parts: tuple[str, ...], stored: str) -> bool:
        """Return True if the path shows that a file's stored noise is outdated, without reading the file."""
        if stored in CONTENT_NOISE:
            return self.is_included(parts) or bool(self.path_noise(parts))
        return stored != self.path_noise(parts)
