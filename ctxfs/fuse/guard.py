"""Round every handler: an OSError becomes its errno, anything unexpected a traceback in the log and EIO.

Any other exception would end the mount.
"""

import errno
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

import pyfuse3

log = logging.getLogger(__name__)

_REFUSALS = (errno.EACCES, errno.EPERM)


@runtime_checkable
class Refuses(Protocol):
    """Wants to know what was refused."""

    def refused(self, handler: str, error: OSError) -> None:
        """A handler of this name has refused a request."""
        ...


Args = ParamSpec("Args")
Result = TypeVar("Result")


def guarded(handler: Callable[Args, Awaitable[Result]]) -> Callable[Args, Coroutine[Any, Any, Result]]:
    """The handler, unable to end the mount."""

    @functools.wraps(handler)
    async def answer(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        try:
            return await handler(*args, **kwargs)
        except OSError as error:
            if error.errno in _REFUSALS and isinstance(args[0], Refuses):
                args[0].refused(handler.__name__, error)
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except pyfuse3.FUSEError:
            raise
        except Exception as error:
            log.exception("%s failed", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return answer
