"""Dictionaries of what the kernel names by number: one that is not there is an answer, not an accident."""

import os
from typing import Generic, NoReturn, TypeVar

Value = TypeVar("Value")


class Table(dict[int, Value], Generic[Value]):
    """Raises OSError with `code` for a number that it does not hold."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code

    def take(self, number: int) -> Value:
        """The value, which is no longer held."""
        value = self[number]
        del self[number]
        return value

    def __missing__(self, number: int) -> NoReturn:
        raise OSError(self._code, os.strerror(self._code))
