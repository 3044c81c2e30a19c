"""Transports of FUSE requests: `direct` reads /dev/fuse by itself, `trio` uses pyfuse3."""

from importlib import import_module
from types import ModuleType

from ctxfs.fuse.mounting import check_library
from ctxfs.fuse.transports.transport import Transport

INTERFACE = 1  # must equal INTERFACE of fastpath.c


def load_fastpath() -> tuple[ModuleType | None, str]:
    """Return the compiled request loop, or None and the reason it cannot be used.

    The reasons: there was no compiler at installation, or the module was built from another version of its source.
    """
    try:
        module = import_module("ctxfs.fuse.transports.fastpath")
    except ImportError:
        return None, "no compiler was there when ctxfs was installed"
    if getattr(module, "INTERFACE", 0) != INTERFACE:
        return None, "it was built from another version: install ctxfs again"
    return module, ""


def make_transport(name: str) -> Transport:
    """Return the transport for the configured loop: `direct`, or pyfuse3 under `trio`.

    Raise CommandError if pyfuse3 cannot be imported.
    """
    if name == "direct":
        from ctxfs.fuse.transports.devfuse import DevFuseTransport

        return DevFuseTransport()
    check_library()
    from ctxfs.fuse.transports.pyfuse import TrioTransport

    return TrioTransport()
