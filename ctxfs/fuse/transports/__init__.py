"""How requests come from the kernel and answers go back: `direct` speaks its protocol, `pyfuse` uses the library."""

from importlib.util import find_spec

from ctxfs.fuse.transports.transport import Transport


def is_compiled() -> bool:
    """True if the compiled loop has been built."""
    return find_spec("ctxfs.fuse.transports.compiled") is not None


def make_transport(name: str) -> Transport:
    """`direct`, or pyfuse3 driven by a `plain` loop or by `trio`."""
    if name == "direct":
        from ctxfs.fuse.transports.direct import Direct

        return Direct()
    from ctxfs.fuse.transports.pyfuse import PlainTransport, TrioTransport

    return TrioTransport() if name == "trio" else PlainTransport()
