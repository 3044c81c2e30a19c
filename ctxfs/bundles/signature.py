"""Signatures of headers, made and verified by `ssh-keygen -Y` of OpenSSH. This module starts no other program.

The keys that the owner trusts are in a file of allowed signers, in the format of ssh-keygen(1): `name ssh-ed25519 AAAA…`.
"""

import errno
import shutil
import subprocess
import tempfile
from pathlib import Path as HostPath

from ctxfs.bundles.header import MAX_SIGNATURE_BYTES
from ctxfs.model.errors import CommandError, invalid

NAMESPACE = "ctxfs-bundle"
SIGNERS_NAME = "allowed_signers"
_PROGRAM = "ssh-keygen"
_SECONDS = 20.0


def sign(header: bytes, key: HostPath) -> bytes:
    """Return the signature of a header by a private key of SSH, or by its agent for a public key. Blocks."""
    if shutil.which(_PROGRAM) is None:
        raise CommandError(f"there is no {_PROGRAM} to sign with", "install OpenSSH")
    done = subprocess.run(
        [_PROGRAM, "-Y", "sign", "-q", "-f", str(key.absolute()), "-n", NAMESPACE],
        input=header, capture_output=True, timeout=None, check=False,
    )  # fmt: skip
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise CommandError(f"'{key}' does not sign: {_last_line(done.stderr)}", "name a private key of SSH: --sign KEY")
    return done.stdout


def verify(header: bytes, signature: bytes, signers: HostPath) -> str:
    """Return the name of the allowed signer of a header; empty for a signature by another key, or if none is allowed.

    Raise OSError EINVAL for a signature that an allowed key did not make for this header. Blocks.
    """
    if not signature or len(signature) > MAX_SIGNATURE_BYTES or not signers.is_file():
        return ""
    if shutil.which(_PROGRAM) is None:
        return ""
    with tempfile.NamedTemporaryFile(prefix="ctxfs-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        base = [_PROGRAM, "-Y"]
        options = ["-n", NAMESPACE, "-f", str(signers), "-s", file.name]
        found = _run([*base, "find-principals", *options], b"")
        names = found.stdout.decode("utf-8", "replace").splitlines()
        if found.returncode or not names:
            return ""
        done = _run([*base, "verify", *options, "-I", names[0]], header)
    if done.returncode:
        raise invalid("signature", f"the bundle is refused: {names[0][:80]} did not sign this header")
    return names[0][:80]


def _run(command: list[str], data: bytes) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{_PROGRAM} takes too long", command[0]) from error


def _last_line(output: bytes) -> str:
    return (output.decode("utf-8", "replace").strip().splitlines() or ["it gives no reason"])[-1][:200]
