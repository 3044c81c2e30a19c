"""Objects of one bucket, with conditional requests: the only module that uses obstore.

Each request ends within `ANSWER_SECONDS`. Credentials come from the environment, and are in no message.
"""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore import exceptions
from obstore.store import S3Store

from ctxfs.model.errors import EXIT_USAGE, CommandError, path_error
from ctxfs.shared.log import ANSWER_SECONDS, LogRefused, unreachable

KEY_VARIABLE = "AWS_ACCESS_KEY_ID"
SECRET_VARIABLE = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 — the name of a variable
TOKEN_VARIABLE = "AWS_SESSION_TOKEN"  # noqa: S105
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_DEFAULT_REGION = "us-east-1"
_OPTIONS = frozenset(("endpoint", "region"))
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_CONNECT_SECONDS = 3
_RETRY = {  # of server errors: a connection that times out is not tried again
    "max_retries": 2,
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(milliseconds=200), "base": 2},
    "retry_timeout": timedelta(seconds=1),
}
_FULL_CODES = frozenset(("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "XMinioAdminBucketQuotaExceeded"))
_SILENT_STATUS = frozenset((408, 409, 429))
_REMEDY = f"check the URL, and {KEY_VARIABLE} and {SECRET_VARIABLE}"


@dataclass(frozen=True, slots=True)
class Stored:
    """One object: its ETag, its time in nanoseconds (whole seconds), and its content, if it was read."""

    etag: str
    time_ns: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of `s3://BUCKET/PREFIX?endpoint=URL&region=REGION`."""

    bucket: str
    prefix: str
    endpoint: str
    region: str


def parse_address(url: str) -> Address:
    """Return the parts of a URL. Raise CommandError if one is invalid, or if it holds a password."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    fault = ""
    if "@" in parts.netloc:
        fault = "holds credentials"
    elif not _BUCKET.fullmatch(parts.netloc):
        fault = "does not name a bucket"
    elif prefix and not (_PREFIX.fullmatch(prefix) and ".." not in prefix.split("/")):
        fault = "has a prefix with other characters than letters, digits, '.', '_', '-' and '/'"
    elif unknown := sorted(options.keys() - _OPTIONS):
        fault = f"has an unknown option '{unknown[0]}'"
    elif not _is_endpoint(options.get("endpoint", "")):
        fault = "has an endpoint that is not http://HOST or https://HOST"
    if fault:
        raise CommandError(
            f"the URL of the bucket {fault}",
            f"use s3://BUCKET/PREFIX?endpoint=https://HOST; credentials belong into {KEY_VARIABLE} and {SECRET_VARIABLE}",
            EXIT_USAGE,
        )
    return Address(parts.netloc, prefix, options.get("endpoint", ""), options.get("region", ""))


def _is_endpoint(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        valid_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and valid_port
    return not endpoint or (is_url and not parts.query and not parts.fragment)


class Bucket:
    """The objects below the prefix of one bucket. All threads may use it.

    Methods raise `Unreachable`, `LogRefused`, or OSError with ENOSPC if the storage is full.
    """

    def __init__(self, address: Address, secret: str = "", environ: Mapping[str, str] = os.environ) -> None:
        """`secret` replaces the secret key of the environment. Sends nothing."""
        self._name = f"s3://{address.bucket}"
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        secret = secret or environ.get(SECRET_VARIABLE, "")
        if not environ.get(KEY_VARIABLE) or not secret:
            raise LogRefused(
                f"the bucket '{self._name}' needs credentials in the environment",
                f"export {KEY_VARIABLE}=… {SECRET_VARIABLE}=…, in the environment of the daemon, too",
            )
        regions = (environ[name] for name in _REGION_VARIABLES if environ.get(name))
        options: dict[str, Any] = {
            "region": address.region or next(regions, _DEFAULT_REGION),
            "access_key_id": environ[KEY_VARIABLE],
            "secret_access_key": secret,
        }
        if environ.get(TOKEN_VARIABLE):
            options["session_token"] = environ[TOKEN_VARIABLE]
        if address.endpoint:
            options["endpoint"] = address.endpoint.rstrip("/")
        client = {
            "timeout": timedelta(seconds=ANSWER_SECONDS),
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "allow_http": address.endpoint.startswith("http://"),
        }
        self._store = S3Store(address.bucket, client_options=client, retry_config=_RETRY, **options)

    def find(self, key: str) -> Stored | None:
        """Return the ETag and time of an object; None if there is none."""
        with self._translated():
            try:
                return _stored(obstore.head(self._store, self._prefix + key))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def read(self, key: str, max_bytes: int) -> Stored | None:
        """Return an object; None if there is none. Raise OSError with EFBIG if it is larger, before it is read."""
        with self._translated():
            try:
                result = obstore.get(self._store, self._prefix + key)
                if result.meta["size"] > max_bytes:
                    raise path_error(errno.EFBIG, key, f"an object of more than {max_bytes} bytes is refused")
                return _stored(result.meta, bytes(result.bytes()))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None

    def write(self, key: str, data: bytes) -> str:
        """Write an object, over an earlier one too, and return its ETag."""
        with self._translated():
            return _etag(obstore.put(self._store, self._prefix + key, data, use_multipart=False))

    def create(self, key: str, data: bytes) -> str:
        """Write an object that does not exist (`If-None-Match: *`), and return its ETag. Raise FileExistsError."""
        with self._translated():
            try:
                return _etag(obstore.put(self._store, self._prefix + key, data, mode="create", use_multipart=False))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
                raise FileExistsError(errno.EEXIST, "it exists", key) from error

    def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write an object whose ETag is `etag` (`If-Match`), and return the new one. Raise FileExistsError for another."""
        with self._translated():
            try:
                mode = {"e_tag": etag}
                return _etag(obstore.put(self._store, self._prefix + key, data, mode=mode, use_multipart=False))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError) as error:
                raise FileExistsError(errno.EEXIST, "it has changed", key) from error

    def delete(self, key: str) -> None:
        """Delete an object, unless there is none."""
        with self._translated(), suppress(FileNotFoundError):
            obstore.delete(self._store, self._prefix + key)

    def _check_bucket(self, error: Exception) -> None:
        if "NoSuchBucket" in str(error):
            raise LogRefused(f"there is no bucket '{self._name}'", "create it, then try again") from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exceptions.BaseError as error:
            raise self._translation(str(error)) from None  # the text of obstore may hold the id of the key
        except exceptions.NotFoundError as error:
            self._check_bucket(error)
            raise

    def _translation(self, text: str) -> Exception:
        status, code = _STATUS.search(text), _CODE.search(text)
        number = int(status[1]) if status else 0
        cause = " ".join(filter(None, (f"status {number}" if number else "no answer", code[1] if code else "")))
        if number == 507 or (code and code[1] in _FULL_CODES):
            return path_error(errno.ENOSPC, self._name, f"the storage of the engine is full: {cause}")
        if "NoSuchBucket" in text:
            return LogRefused(f"there is no bucket '{self._name}'", "create it, then try again")
        if 400 <= number < 500 and number not in _SILENT_STATUS:
            return LogRefused(f"the bucket '{self._name}' refuses: {cause}", _REMEDY)
        return unreachable(self._name, cause)


def _stored(meta: Any, data: bytes = b"") -> Stored:
    return Stored(_etag(meta), int(meta["last_modified"].timestamp()) * 1_000_000_000, data)


def _etag(result: Any) -> str:
    """Return the ETag. Raise `LogRefused` if the storage sends none: then nothing can be conditional."""
    if not result["e_tag"]:
        raise LogRefused("the object storage sends no ETags", "use one with conditional requests")
    return str(result["e_tag"])
