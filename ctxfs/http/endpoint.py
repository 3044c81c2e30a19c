"""The endpoint of an HTTP server: its address, the host names that lead to it, and TLS.

Without TLS only programs of this machine can connect: any other address is refused.
"""

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctxfs.http.address import LOOPBACK_HOSTS, TcpAddress
from ctxfs.model.errors import EXIT_USAGE, CommandError

_HTTPS_PORT = 443
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - refused as names
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|[0-9a-f:.]{2,45}")
_HSTS = "max-age=2592000"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listening address with the names that clients use for it, the printed one first."""

    address: TcpAddress
    names: Sequence[str]
    tls: ssl.SSLContext | None = None
    warnings: Sequence[str] = ()

    @property
    def scheme(self) -> str:
        """The scheme of its URLs."""
        return "https" if self.tls else "http"

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of all its responses."""
        return {"strict-transport-security": _HSTS} if self.tls else {}

    def hosts(self, port: int) -> Sequence[str]:
        """Return the accepted values of `Host` for a listening port."""
        hosts = [TcpAddress(name, port).authority for name in self.names]
        is_default = self.tls is not None and port == _HTTPS_PORT
        return tuple([*hosts, *(host.rpartition(":")[0] for host in hosts)] if is_default else hosts)

    def url(self, port: int) -> str:
        """Return the URL of the server, without a path."""
        return f"{self.scheme}://{TcpAddress(self.names[0], port).authority}"


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The options of a command: files in PEM, and host names."""

    certificate: str = ""
    key: str = ""
    hostnames: Sequence[str] = ()

    @property
    def is_given(self) -> bool:
        """True if any of the options is given."""
        return bool(self.certificate or self.key or self.hostnames)


def make_endpoint(address: TcpAddress, options: TlsOptions) -> Endpoint:
    """Return the endpoint. Raise CommandError for an address of other machines without TLS, and for unusable files."""
    if bool(options.certificate) != bool(options.key):
        raise CommandError("a certificate is used with its key", "give --tls-cert and --tls-key", EXIT_USAGE)
    if not options.certificate:
        return _local_endpoint(address, options)
    from ctxfs.http.tls import load_certificate  # loads a library that servers without TLS do not need

    certificate = load_certificate(options.certificate, options.key)
    given = [_checked_name(name) for name in options.hostnames]
    own = [] if address.host in _WILDCARDS else [address.host.lower()]
    named = given or [name for name in certificate.names if not name.startswith("*.")]
    names = tuple(dict.fromkeys([*named, *own]))
    if not names:
        raise CommandError(
            "the certificate names no host", "give the name that clients use: --hostname NAME", EXIT_USAGE
        )
    warnings = [
        f"the certificate does not name '{name}': clients will refuse it"
        for name in given or names[:1]
        if not certificate.is_valid_for(name)
    ]
    return Endpoint(address, names, certificate.context, tuple(warnings))


def _local_endpoint(address: TcpAddress, options: TlsOptions) -> Endpoint:
    if not address.is_loopback:
        raise CommandError(
            f"other machines reach '{address.authority}', and there is no TLS",
            "give --tls-cert FILE and --tls-key FILE, or listen on 127.0.0.1 and forward the port (ssh -L)",
            EXIT_USAGE,
        )
    if options.hostnames:
        raise CommandError(
            "a host name is for other machines, and there is no TLS", "give --tls-cert and --tls-key", EXIT_USAGE
        )
    others = LOOPBACK_HOSTS if address.host == "localhost" else ("localhost",)
    return Endpoint(address, tuple(dict.fromkeys([address.host, *others])))


def _checked_name(name: str) -> str:
    lowered = name.lower().strip("[]")
    if not _NAME.fullmatch(lowered):
        raise CommandError(f"'{name}' is no host name", "give a name or an IP address, without a port", EXIT_USAGE)
    return lowered
