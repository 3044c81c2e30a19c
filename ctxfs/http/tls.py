"""TLS of HTTP servers: a certificate and its key from files, checked before the server listens.

No other module imports cryptography. A key that other users can read is refused, as ssh does.
"""

import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as HostPath

from cryptography import x509

from ctxfs.model.errors import EXIT_USAGE, CommandError

_MAX_FILE_BYTES = 1_000_000
_OTHERS = stat.S_IRWXO
_GROUP_AND_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, ready to serve. `names` are its host names and IP addresses."""

    context: ssl.SSLContext
    names: Sequence[str]

    def is_valid_for(self, name: str) -> bool:
        """Return True if the certificate names this host, also by `*.` for one label."""
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


def load_certificate(certificate: str, key: str) -> Certificate:
    """Return the certificate of two files in PEM. Raise CommandError for a file or a pair that cannot be used."""
    data = _read(certificate)
    _check_key_file(key)
    try:
        leaf = x509.load_pem_x509_certificates(data)[0]
    except ValueError as error:
        remedy = "give a file in PEM with the certificate and its chain to --tls-cert, such as fullchain.pem"
        raise CommandError(f"'{certificate}' has no certificate", remedy, EXIT_USAGE) from error
    _check_time(certificate, leaf)
    return Certificate(_load_pair(certificate, key), _names_of(leaf))


def _read(file: str) -> bytes:
    try:
        _check_regular(file, os.stat(file))
        return HostPath(file).read_bytes()
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error


def _check_key_file(file: str) -> None:
    try:
        status = os.stat(file)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error
    _check_regular(file, status)
    # A key of root that a group may read, such as ssl-cert, is for servers of other users.
    refused = _GROUP_AND_OTHERS if status.st_uid == os.geteuid() else _OTHERS
    if status.st_mode & refused:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise CommandError(f"other users can use the key '{file}' (mode {mode})", f"chmod 600 '{file}'", EXIT_USAGE)
    if not os.access(file, os.R_OK):
        raise _unreadable(file, "Permission denied")


def _check_regular(file: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE_BYTES:
        raise _unreadable(file, "it is no file of at most 1 MB")


def _unreadable(file: str, reason: str) -> CommandError:
    return CommandError(f"'{file}' cannot be read: {reason}", "give a file in PEM that you can read", EXIT_USAGE)


def _check_time(file: str, leaf: x509.Certificate) -> None:
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc < now:
        ended = leaf.not_valid_after_utc.date().isoformat()
        raise CommandError(f"the certificate '{file}' has expired on {ended}", "renew it, and give the new file")
    if leaf.not_valid_before_utc > now:
        begin = leaf.not_valid_before_utc.date().isoformat()
        raise CommandError(f"the certificate '{file}' is valid from {begin} on only", "check the clock of this machine")


def _names_of(leaf: x509.Certificate) -> Sequence[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*(name.lower() for name in names.get_values_for_type(x509.DNSName)), *addresses)


def _load_pair(certificate: str, key: str) -> ssl.SSLContext:
    def refuse_password() -> str:
        remedy = f"write it without one: openssl pkey -in '{key}' -out FILE, then chmod 600 FILE"
        raise CommandError(f"the key '{key}' has a password", remedy, EXIT_USAGE)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])  # the limits of the servers are those of HTTP/1.1
    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"the key '{key}' does not belong to the certificate '{certificate}'"
        else:
            problem = f"'{key}' has no private key that fits to '{certificate}'"
        raise CommandError(problem, "give the key that the certificate was made for", EXIT_USAGE) from error
    except OSError as error:
        raise _unreadable(key, error.strerror or str(error)) from error
    return context
