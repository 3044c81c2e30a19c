"""How requests come from the kernel and answers go back: `direct` speaks its protocol, `pyfuse` uses the library."""

from ctxfs.fuse.transports.transport import Transport


def make_transport(name: str) -> Transport:
    """`direct`, or pyfuse3 driven by a `plain` loop or by `trio`."""
    if name == "direct":
        from ctxfs.fuse.transports.direct import Direct

        return Direct()
    from ctxfs.fuse.transports.pyfuse import PlainTransport, TrioTransport

    return TrioTransport() if name == "trio" else PlainTransport()
