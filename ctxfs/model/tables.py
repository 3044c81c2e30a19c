"""Dictionaries of what the kernel names by number: one that is not there is an answer, not an accident."""

import os
from typing import Generic, NoReturn, TypeVar

Value = TypeVar("Value")


class Table(dict[int, Value], Generic[Value]):
    """Raises OSError with `code` for a number that it does not hold."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code

    def __missing__(self, number: int) -> NoReturn:
        raise OSError(self._code, os.strerror(self._code))
