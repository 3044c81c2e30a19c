"""The command export, and the import of bundles: a part of the tree as a directory or a tar file."""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path as HostPath
from typing import Any

import click

from ctxfs import __version__
from ctxfs.bundles.bundle_files import (
    HISTORY_NAME,
    VERSION_FOLDER,
    BundleWriter,
    DirectoryWriter,
    Opened,
    Receive,
    TarWriter,
    open_tar,
    read_bundle,
)
from ctxfs.bundles.header import (
    CONTENT_FOLDER,
    HEADER_NAME,
    HISTORY_FIELD,
    SIGNATURE_NAME,
    BundleEntry,
    Header,
    check_paths,
    encode_header,
)
from ctxfs.cli import completion_values
from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line, warn
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path

_TAR_SUFFIX = ".tar"
_MAX_CACHED_BYTES = 64_000_000
_MAX_BATCH_BYTES = 4_000_000
_MAX_BATCH_PARTS = 1000
_MAX_VERSIONS = 10_000  # of one file

Read = Callable[[BundleEntry], bytes]


@click.command(name="export")
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.argument("file", type=click.Path(path_type=HostPath))
@click.option("--history", "has_history", is_flag=True, help="Add earlier versions")
@click.option(
    "--sign", "key", metavar="KEY", type=click.Path(path_type=HostPath), help="Private key of SSH to sign with"
)
@json_option()
@click.pass_obj
def export_bundle(
    store: str | None, path: str, file: HostPath, has_history: bool, key: HostPath | None, as_json: bool
) -> None:
    """Export a part of the tree as a bundle

    FILE.tar is a tar file, another name a new directory. The bundle has the files of PATH that you may read, with
    their attributes and hashes.
    """
    with session(store) as opened:
        root = Path.parse(tree_path(opened, path))
        listed = opened.call("bundle_files", path=str(root))
        is_file = opened.call("stat", path=str(root))[1] == "file"
        below = root.parent if is_file else root
        read = _cached_reader(opened, below)
        files = [_hashed(row, read) for row in listed["files"]]
        if not files:
            raise CommandError(f"'{path}' has no file that you may read", "", EXIT_NOTHING_FOUND)
        directories = tuple(BundleEntry(Path.parse(row[0]), row[1], row[2]) for row in listed["directories"])
        check_paths((entry.path for entry in files), (entry.path for entry in directories))
        groups = _groups(opened, root, files, listed["left_out"])
        history = _History(opened, below, files) if has_history else None
        if history is not None:
            groups[0][HISTORY_FIELD] = history.sha256
        header = Header(below, tuple(files), directories, *groups)
        data = encode_header(header)
        signature = _sign(data, key)
        with _writer(file) as out:
            out.add(HEADER_NAME, data)
            if signature:
                out.add(SIGNATURE_NAME, signature)
            for entry in files:
                out.add(f"{CONTENT_FOLDER}/{entry.path}", read(entry), entry.mode | 0o600)
            if history is not None:
                history.write(out)
    if listed["left_out"]:
        warn(f"{count_noun(listed['left_out'], 'link or unreadable file')} left out")
    if as_json:
        summary = {"tree": header.tree_hash, "files": len(files), "bytes": header.total_bytes}
        print_json({**summary, "left_out": listed["left_out"], "signed": bool(signature)})
    else:
        print_line(
            f"{file}: {count_noun(len(files), 'file')}, {header.total_bytes} bytes, tree {header.tree_hash[:16]}"
        )


def import_bundle(store: str | None, file: HostPath, to: str, as_json: bool) -> None:
    """Import a bundle as one version, and print the outcome."""
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="import")
        outcome, source = send_bundle(opened, file, tree_path(opened, to) if to else "")
    print_import(outcome, as_json, history=str(file) if source.has_history else "")


def print_import(outcome: Mapping[str, Any], as_json: bool, history: str = "") -> None:
    """Print the outcome of an import; `history` is the bundle that keeps the earlier versions."""
    count = sum(change["what"] != "remove" for change in outcome["changes"])
    for path in outcome["kept"]:
        warn(f"'{path}' was written meanwhile, and is as it was")
    if as_json:
        print_json({**outcome, "changes": count, **({"history": history} if history else {})})
        return
    trust = f"signed by {outcome['signer']}" if outcome["signer"] else "untrusted: no allowed signer"
    version = outcome["version"]["revision"][:8] if outcome["version"] else "nothing new"
    print_line(f"{outcome['to']}: {count_noun(count, 'change')} ({version}), tree {outcome['tree'][:16]}, {trust}")
    if history:
        print_line(f"its earlier versions stay in '{history}', whole: `ctxfs log` has only the import → history.jsonl")


def send_bundle(opened: StoreSession, file: HostPath, to: str) -> tuple[Mapping[str, Any], Opened]:
    """Read a bundle to its end into a staged import and commit that. An error drops the import."""
    sender = Sender(opened, to)
    try:
        source = read_bundle(file, sender.begin)
        return sender.commit(), source
    except BaseException:
        sender.drop()
        raise


class Sender:
    """A staged import of a store, to which contents are sent in batches."""

    def __init__(self, opened: StoreSession, to: str) -> None:
        self._opened = opened
        self._to = to
        self._name = ""
        self._parts: list[list[Any]] = []
        self._size = 0

    def begin(self, source: Opened) -> Receive:
        """Begin with the header, and return the receiver of contents."""
        arguments = {"header": source.data, "signature": source.signature, "to": self._to}
        self._name = self._opened.call("bundle_begin", **arguments)["name"]
        return self.add

    def add(self, number: int, data: bytes) -> None:
        """Add a part of the content of a file."""
        self._parts.append([number, data])
        self._size += len(data)
        if self._size >= _MAX_BATCH_BYTES or len(self._parts) >= _MAX_BATCH_PARTS:
            self._flush()

    def commit(self) -> Mapping[str, Any]:
        """Make the version and return its record."""
        self._flush()
        name, self._name = self._name, ""
        outcome: Mapping[str, Any] = self._opened.call("bundle_commit", name=name)
        return outcome

    def drop(self) -> None:
        """Drop the staged import, if it has begun."""
        if self._name:
            with contextlib.suppress(OSError, CommandError):
                self._opened.call("bundle_drop", name=self._name)

    def _flush(self) -> None:
        if self._parts:
            self._opened.call("bundle_add", name=self._name, parts=self._parts)
        self._parts, self._size = [], 0


def _cached_reader(opened: StoreSession, below: Path) -> Read:
    """Return a reader of contents that reads small ones once, and refuses one that has changed since it was hashed."""
    cache: dict[Path, bytes] = {}
    total = 0

    def read(entry: BundleEntry) -> bytes:
        nonlocal total
        data = cache.pop(entry.path, None)
        if data is None:
            data = opened.call("read", path=str(below.join(entry.path)))
        assert data is not None
        if entry.sha256:
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise CommandError(f"'{entry.path}' has changed during the export", "export again")
        elif total + len(data) <= _MAX_CACHED_BYTES:
            cache[entry.path] = data
            total += len(data)
        return data

    return read


def _hashed(row: Sequence[Any], read: Read) -> BundleEntry:
    path, mode, attributes = row
    data = read(BundleEntry(Path.parse(path), mode, attributes))
    return BundleEntry(Path.parse(path), mode, attributes, len(data), hashlib.sha256(data).hexdigest())


def _groups(
    opened: StoreSession, root: Path, files: Sequence[BundleEntry], left_out: int
) -> tuple[dict[str, Any], ...]:
    """Return the descriptive, governance and behaviour groups of a header."""

    def counts(name: str) -> dict[str, int]:
        values = (entry.attributes.get(f"{PREFIX}{name}", b"").decode("utf-8", "replace") for entry in files)
        return dict(sorted(Counter(value for value in values if value).items()))

    who = opened.call("whoami")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    descriptive = {"name": root.name or "tree", "created_at": now, "ctxfs": __version__}
    governance = {"exported_by": str(who.get("principal", "")), "trust": counts("trust"), "left_out": left_out}
    governance |= {"quarantined": sum(counts("quarantined").values()), "frozen": sum(counts("frozen").values())}
    behaviour = {"kinds": counts("kind"), "states": counts("state"), "pinned": sum(counts("pinned").values())}
    return descriptive, governance, behaviour


def _sign(header: bytes, key: HostPath | None) -> bytes:
    if key is None:
        return b""
    from ctxfs.bundles.signature import sign

    return sign(header, key)


@contextlib.contextmanager
def _writer(file: HostPath) -> Iterator[BundleWriter]:
    """Open a bundle for writing. A tar file appears complete or not at all."""
    if file.suffix != _TAR_SUFFIX:
        yield DirectoryWriter(file)
        return
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(temporary, "xb") as out, open_tar(out) as tar:
            yield TarWriter(tar)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


class _History:
    """The versions of files, oldest first, and their contents, of which each is written once."""

    def __init__(self, opened: StoreSession, below: Path, files: Sequence[BundleEntry]) -> None:
        self._opened = opened
        self._contents: dict[str, tuple[str, str]] = {}  # digest → path and revision that have the content
        self._data = "".join(
            line for entry in files for line in self._versions_of(entry, str(below.join(entry.path)))
        ).encode()

    @property
    def sha256(self) -> str:
        """The hash of the list of versions."""
        return hashlib.sha256(self._data).hexdigest()

    def write(self, out: BundleWriter) -> None:
        """Write the list, then the contents."""
        out.add(HISTORY_NAME, self._data)
        for digest, (location, revision) in self._contents.items():
            data = self._opened.call("show", path=location, at=revision)
            if hashlib.sha256(data).hexdigest() != digest:
                raise CommandError(f"the past of '{location}' has changed during the export", "export again")
            out.add(f"{VERSION_FOLDER}/{digest}", data)

    def _versions_of(self, entry: BundleEntry, location: str) -> Iterator[str]:
        try:
            versions = self._opened.call("log", path=location, limit=_MAX_VERSIONS)
        except OSError:
            return  # a source has no versions
        for row in reversed(versions):
            record = {name: row[name] for name in ("revision", "time", "principal", "session", "tool", "op", "reason")}
            with contextlib.suppress(OSError):  # the version removed the file, or had another name for it
                digest = hashlib.sha256(self._opened.call("show", path=location, at=row["revision"])).hexdigest()
                self._contents.setdefault(digest, (location, row["revision"]))
                record["sha256"] = digest
            yield json.dumps({"path": str(entry.path), **record}, sort_keys=True) + "\n"
