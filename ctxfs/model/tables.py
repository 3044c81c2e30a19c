"""Tables of objects that the kernel refers to by number: an unknown number is an error with an errno."""

import os
from typing import Generic, NoReturn, TypeVar

Value = TypeVar("Value")


class Table(dict[int, Value], Generic[Value]):
    """A dictionary that raises OSError with `code` for an absent number."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code

    def take(self, number: int) -> Value:
        """Remove and return a value."""
        value = self[number]
        del self[number]
        return value

    def __missing__(self, number: int) -> NoReturn:
        raise OSError(self._code, os.strerror(self._code))
