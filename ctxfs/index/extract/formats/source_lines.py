"""Lines of a JSON text at which its strings stand."""

import json

_MAX_FRAGMENT_CHARACTERS = 60
_MAX_SEARCH_CHARACTERS = 4_000_000


class SourceLines:
    """A cursor over a JSON text. Strings are found in the order of the text; one that is not found has the last line."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offset = 0
        self._line = 1

    def find(self, value: str) -> int:
        """Return the line (from 1) of the next string that begins with the first line of `value`."""
        fragment = next((line for line in value.split("\n") if line.strip()), "")[:_MAX_FRAGMENT_CHARACTERS]
        if not fragment or "\n" not in self._text:
            return self._line
        end = self._offset + _MAX_SEARCH_CHARACTERS
        for is_ascii in (False, True):
            encoded = json.dumps(fragment, ensure_ascii=is_ascii)[1:-1]
            offset = self._text.find(encoded, self._offset, end)
            if offset >= 0:
                self._line += self._text.count("\n", self._offset, offset)
                self._offset = offset
                break
        return self._line
