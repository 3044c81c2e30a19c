"""The command okf: knowledge in the Open Knowledge Format is checked, exported and imported."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path as HostPath
from typing import Any

import click

from ctxfs.bundles.bundle_files import DirectoryWriter, Opened
from ctxfs.bundles.header import BundleEntry, Header, check_paths, encode_header
from ctxfs.bundles.okf import (
    RESERVED,
    check_concept,
    check_index,
    check_log,
    is_concept,
    make_index,
    missing_fields,
    split_front_matter,
)
from ctxfs.cli import completion_values
from ctxfs.cli.bundles import Sender, print_import
from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.options import json_option
from ctxfs.cli.output import count_noun, print_json, print_line
from ctxfs.cli.paths import tree_path
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, EXIT_UNHEALTHY, CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import ROOT, Path

_MAX_FRONT_MATTER_CHARACTERS = 16_384  # PyYAML reads about 100 kB a second
_DEFAULT_TYPE = "Reference"


@click.group(cls=CommandGroup)
def okf() -> None:
    """Manage knowledge in the Open Knowledge Format"""


@okf.command()
@click.argument("path", shell_complete=completion_values.tree_paths)
@json_option()
@click.pass_obj
def check(store: str | None, path: str, as_json: bool) -> None:
    """Check a directory for conformance

    Exit code 6 if a file does not conform to version 0.2. Remarks are no faults.
    """
    with session(store) as opened:
        files = _read_tree(opened, Path.parse(tree_path(opened, path)))
    rows = [{"path": str(name), "faults": faults, "remarks": remarks} for name, faults, remarks in _judge(files)]
    if not files:
        raise CommandError(f"'{path}' has no Markdown file that you may read", "", EXIT_NOTHING_FOUND)
    faulty = sum(bool(row["faults"]) for row in rows)
    if as_json:
        print_json({"conformant": not faulty, "files": len(files), "findings": rows})
    else:
        for row in rows:
            for fault in row["faults"]:
                print_line(f"{row['path']}: {fault}")
            for remark in row["remarks"]:
                print_line(f"{row['path']}: {remark} (remark)")
        print_line(f"{count_noun(len(files), 'file')}, {faulty or 'none'} not conformant")
    if faulty:
        raise click.exceptions.Exit(EXIT_UNHEALTHY)


@okf.command()
@click.argument("path", shell_complete=completion_values.tree_paths)
@click.argument("folder", type=click.Path(path_type=HostPath))
@click.pass_obj
def export(store: str | None, path: str, folder: HostPath) -> None:
    """Export Markdown files as conformant knowledge

    Each file gets the front matter that it lacks, from its attributes, and each directory an index.
    """
    with session(store) as opened:
        root = Path.parse(tree_path(opened, path))
        files = _read_tree(opened, root)
        if not files:
            raise CommandError(f"'{path}' has no Markdown file that you may read", "", EXIT_NOTHING_FOUND)
        check_paths(files, ())
        out = DirectoryWriter(folder)
        fields_of: dict[Path, Mapping[str, Any]] = {}
        for name, data in files.items():
            if is_concept(name.name):
                attributes = opened.call("metadata", path=str(root.join(name)))
                data, fields_of[name] = _complete(data, attributes)
            out.add(str(name), data)
    for name, text in _indexes(files, fields_of):
        out.add(str(name), text.encode())
    print_line(f"{folder}: {count_noun(len(files), 'file')}")


@okf.command(name="import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=HostPath))
@click.argument("path", shell_complete=completion_values.tree_paths)
@json_option()
@click.pass_obj
def import_(store: str | None, folder: HostPath, path: str, as_json: bool) -> None:
    """Import a folder of knowledge as one version

    The files are untrusted. Their front matter is read as attributes of them. Links and hidden files are left out.
    """
    files = dict(_read_folder(folder))
    if not files:
        raise CommandError(f"'{folder}' has no files", "", EXIT_NOTHING_FOUND)
    entries = tuple(
        BundleEntry(name, 0o644, {}, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    )
    header = Header(ROOT, entries, (), {"name": folder.absolute().name}, {}, {})
    with session(store) as opened:
        opened.call("join", session=os.environ.get("CTXFS_SESSION", ""), tool="import")
        sender = Sender(opened, tree_path(opened, path))
        try:
            receive = sender.begin(Opened(header, encode_header(header)))
            for number, data in enumerate(files.values()):
                receive(number, data)
            outcome = sender.commit()
        except BaseException:
            sender.drop()
            raise
    print_import(outcome, as_json)


def _read_tree(opened: StoreSession, root: Path) -> dict[Path, bytes]:
    """Return the Markdown files below a directory by their paths relative to it."""
    listed = opened.call("bundle_files", path=str(root))["files"]
    names = sorted(Path.parse(row[0]) for row in listed if row[0].endswith(".md"))
    return {name: opened.call("read", path=str(root.join(name))) for name in names}


def _read_folder(folder: HostPath) -> Iterator[tuple[Path, bytes]]:
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = HostPath(directory) / name
            if not name.startswith(".") and not file.is_symlink() and file.is_file():
                yield Path.parse(str(file.relative_to(folder))), file.read_bytes()


def _judge(files: Mapping[Path, bytes]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield (path, faults, remarks) of the files that have any."""
    for name, data in files.items():
        remarks: list[str] = []
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            yield name, ["is not UTF-8"], []
            continue
        if name.name == "index.md":
            faults = check_index(text, is_root=len(name.parts) == 1)
        elif name.name in RESERVED:
            faults = check_log(text)
        else:
            faults, remarks = check_concept(_parse_fields(text))
        if faults or remarks:
            yield name, faults, remarks


def _parse_fields(text: str) -> dict[str, Any] | None:
    """Return the fields of the front matter; None if there is none that is a table in YAML."""
    from ctxfs.index.extract.front_matter import YamlError, parse_yaml_table

    block, _ = split_front_matter(text)
    if block is None or len(block) > _MAX_FRONT_MATTER_CHARACTERS:
        return None
    try:
        return parse_yaml_table(block)
    except YamlError:
        return None


def _complete(data: bytes, attributes: Mapping[str, bytes]) -> tuple[bytes, Mapping[str, Any]]:
    """Return a concept with the front matter that it lacks, and its fields. Existing fields stay as they are, byte by byte."""
    from ctxfs.index.extract.front_matter import dump_yaml_table

    text = data.decode("utf-8", "surrogateescape")
    values = {
        name.removeprefix(PREFIX): value.decode("utf-8", "replace")
        for name, value in attributes.items()
        if name.startswith(PREFIX)
    }
    fields = _parse_fields(text)
    added = missing_fields(fields or {}, values, _DEFAULT_TYPE)
    if not added:
        return data, fields or {}
    block = dump_yaml_table(added)
    if fields is None:
        return f"---\n{block}---\n\n{text}".encode("utf-8", "surrogateescape"), added
    head, body = split_front_matter(text)
    head = f"{head}\n" if head else ""
    return f"---\n{head}{block}---\n{body}".encode("utf-8", "surrogateescape"), {**fields, **added}


def _indexes(files: Mapping[Path, bytes], fields_of: Mapping[Path, Mapping[str, Any]]) -> Iterator[tuple[Path, str]]:
    """Yield the index of each directory that has none."""
    directories: dict[Path, dict[str, tuple[str, str]]] = {ROOT: {}}
    for name, fields in fields_of.items():
        for depth in range(1, len(name.parts)):
            parent, child = Path(name.parts[: depth - 1]), name.parts[depth - 1]
            directories.setdefault(parent, {})[f"{child}/"] = (child, "")
        title = str(fields.get("title") or name.name.removesuffix(".md"))
        entry = " ".join(title.split())[:200], " ".join(str(fields.get("description") or "").split())[:200]
        directories.setdefault(name.parent, {})[name.name] = entry
    for directory, entries in directories.items():
        if (index := directory / "index.md") not in files:
            yield index, make_index(entries, is_root=directory.is_root)
