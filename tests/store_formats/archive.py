"""A store as a tar file: the user attributes of its files are in the headers, derived files are left out."""

import os
import tarfile
from pathlib import Path

FOLDER = Path(__file__).parent
DERIVED = ("index", "run")
_PREFIX = "SCHILY.xattr."


def pack(store: Path, file: Path) -> None:
    def add_attributes(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.split("/")[0] in DERIVED:
            return None
        path = store / member.name
        names = os.listxattr(path, follow_symlinks=False)
        member.pax_headers = {
            _PREFIX + name: os.getxattr(path, name, follow_symlinks=False).decode("utf-8", "surrogateescape")
            for name in names
            if name.startswith("user.")
        }
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(os.listdir(store)):
            archive.add(store / name, name, filter=add_attributes)


def unpack(file: Path, store: Path) -> None:
    store.mkdir(mode=0o700)
    with tarfile.open(file) as archive:
        members = archive.getmembers()
        archive.extractall(store, filter="tar")
    for member in members:
        for name, value in member.pax_headers.items():
            if name.startswith(_PREFIX):
                os.setxattr(store / member.name, name.removeprefix(_PREFIX), value.encode("utf-8", "surrogateescape"))
    for name in DERIVED:
        (store / name).mkdir(mode=0o700)
