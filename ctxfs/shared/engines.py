"""The engines of a shared log, by the scheme of their URL. Those with libraries of their own are loaded only if they are used."""

from pathlib import Path as HostPath
from urllib.parse import unquote, urlsplit

from ctxfs.model.credentials import without_passwords
from ctxfs.model.errors import EXIT_USAGE, CommandError
from ctxfs.model.installation import require_extra
from ctxfs.shared.entries import is_node_name
from ctxfs.shared.folder_log import FolderLog
from ctxfs.shared.log import SharedLog

_POSTGRES_SCHEMES = ("postgresql", "postgres")


def open_log(url: str, store: str, password: str = "", *, create: bool = False) -> SharedLog:
    """Open the log of a store; with `create`, begin it unless it exists.

    Raise CommandError for a URL without an engine, `LogRefused` or `Unreachable` as the engine does.
    """
    if not is_node_name(store):
        raise CommandError(f"'{store}' cannot name a shared store", "use letters, digits, '.', '_' and '-'", EXIT_USAGE)
    scheme, path = _split(url)
    if scheme in _POSTGRES_SCHEMES:
        require_extra("postgres", "PostgreSQL as an engine")
        from ctxfs.shared.postgres_log import PostgresLog

        return PostgresLog(url, store, password, create=create)
    if scheme == "s3":
        require_extra("s3", "an object storage as an engine")
        from ctxfs.shared.s3_log import S3Log

        return S3Log(url, store, password, create=create)
    if scheme == "file" and path.startswith("/"):
        return FolderLog(HostPath(path), store, create=create)
    raise CommandError(
        f"'{without_passwords(url)}' is not the URL of an engine",
        "use postgresql://USER@HOST/DATABASE, s3://BUCKET/PREFIX, or file:///FOLDER",
        EXIT_USAGE,
    )


def _split(url: str) -> tuple[str, str]:
    """Return the scheme and path of a URL; that of an absolute path is `file`."""
    if url.startswith("/"):
        return "file", url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, unquote(parts.path) if not parts.netloc or parts.scheme != "file" else ""
