"""Random operations and faults on the nodes of a `World`."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ctxfs.model.errors import CommandError
from tests.shared.checking.world import Member, World
from tests.versions.conftest import ALICE, LARGE

FOLDERS = ("memory/a", "memory/b", "pad/t", "memory/a/sub")
NAMES = ("x.md", "X.md", "y.txt", "z.jsonl", "ünï.md", "big.bin", "plain", "link", "either")
LOGS = ("memory/shared/log.jsonl", "memory/shared/notes.md")
ATTRIBUTES = (("kind", "fact"), ("kind", "event"), ("tags", "a"), ("tags", "b"), ("description", "d"))
_ORDINARY_ERRORS = (IsADirectoryError, NotADirectoryError, FileExistsError, FileNotFoundError)


class Operations:
    """Chooses operations and faults by the world's random numbers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance
        self._backups: dict[str, tuple[Path, dict[str, int]]] = {}
        self._work: list[tuple[int, Callable[[Member], None]]] = [
            (16, self.overwrite),
            (14, self.append_line),
            (8, self.append_text),
            (10, self.rename),
            (7, self.remove),
            (5, self.label),
            (2, self.freeze),
            (3, self.link),
            (2, self.change_mode),
            (2, self.large),
            (2, self.change_case),
            (2, self.make_folder),
            (2, self.move_folder),
            (1, self.many),
            (3, self.undo),
            (2, self.open_file),
            (3, self.close_file),
        ]
        world.between = self.between

    def begin(self) -> None:
        """Make the files that all nodes begin with."""
        first = self._world.members[0]

        def work() -> None:
            for path in LOGS:
                first.past.write(path, f"{(token := self._world.token())}\n")
                self._world.model.lines[path].append(token.encode())
            for folder in FOLDERS:
                first.past.write(f"{folder}/keep", self._world.token())

        self._world.perform(first, "begin", work)
        self._world.settle()
        self._world.is_calm = False

    def step(self) -> None:
        """Do one operation, and perhaps let a node exchange or fail."""
        self.operate(self._chance.choice(self._world.members))
        member = self._chance.choice(self._world.members)
        draw = self._chance.random()
        if draw < 0.4:
            self._world.exchange(member)
        elif draw < 0.42:
            member.restart()
        elif draw < 0.43:
            member.crash()
        elif draw < 0.45:
            self._world.kill_in_exchange(member, int(2 ** (self._chance.random() * 9)))
        elif draw < 0.48:
            member.is_cut = not member.is_cut
        elif draw < 0.50:
            self._backup_or_restore(member)

    def between(self, member: Member) -> None:
        """Do something within an exchange of a member: at its own tree, or at another node."""
        other = self._chance.choice(self._world.members)
        if other.is_busy or self._world.has_turn or self._chance.random() < 0.5:
            self.operate(other)
        else:
            self._world.observe(member)
            self._world.exchange(other)

    def operate(self, member: Member) -> None:
        """Do one operation at a node."""
        weights = [weight for weight, _ in self._work]
        ((_, work),) = self._chance.choices(self._work, weights)
        with contextlib.suppress(*_ORDINARY_ERRORS):
            self._world.perform(member, work.__name__, lambda: work(member))

    def _backup_or_restore(self, member: Member) -> None:
        target = self._world.folder / f"backup-{member.name}"
        if member.handles:
            return
        if member.name not in self._backups:
            self._world.backup(member, target)
            self._backups[member.name] = target, dict(member.known)
            return
        self._world.is_calm = True
        is_published = self._world.exchange(member)
        self._world.is_calm = False
        if is_published and not member.node.count_unpublished():
            target, known = self._backups.pop(member.name)
            self._world.restore(member, target, known)

    # paths

    def _path(self) -> str:
        return f"{self._chance.choice(FOLDERS)}/{self._chance.choice(NAMES)}"

    def _existing(self, member: Member) -> str:
        """Return a path with a file or link; a new one if there is none."""
        root = member.past.tree
        paths = [path for folder in FOLDERS for path in sorted((root / folder).glob("*")) if not path.is_dir()]
        paths = [path for path in paths if path.name != "keep"]
        return str(self._chance.choice(paths).relative_to(root)) if paths else self._path()

    # operations

    def overwrite(self, member: Member) -> None:
        count = self._chance.choice((1, 1, 1, 3))
        self._write(member, self._path(), "".join(f"{self._world.token()}\n" for _ in range(count)))

    def _write(self, member: Member, path: str, text: str | bytes) -> None:
        file = member.past.tree / path
        if file.is_symlink():
            file.unlink()
        member.past.write(path, text)

    def append_line(self, member: Member) -> None:
        path, token = self._chance.choice(LOGS), self._world.token()
        with (member.past.tree / path).open("a") as file:
            file.write(f"{token}\n")
        member.past.note("write", path)
        self._world.model.lines[path].append(token.encode())

    def append_text(self, member: Member) -> None:
        path = self._existing(member)
        file = member.past.tree / path
        if not file.is_symlink():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a") as out:
                out.write(f"{self._world.token()}\n")
            member.past.note("write", path)

    def rename(self, member: Member) -> None:
        source, target = self._existing(member), self._path()
        if source != target and not (member.past.tree / target).is_dir():
            member.past.move(source, target)

    def change_case(self, member: Member) -> None:
        source = self._existing(member)
        folder, _, name = source.rpartition("/")
        if name.swapcase() != name:
            member.past.move(source, f"{folder}/{name.swapcase()}")

    def remove(self, member: Member) -> None:
        member.past.remove(self._existing(member))

    def label(self, member: Member) -> None:
        path, (name, value) = self._existing(member), self._chance.choice(ATTRIBUTES)
        if not (member.past.tree / path).is_symlink():
            member.past.label(path, name, value)

    def freeze(self, member: Member) -> None:
        path = self._existing(member)
        if not (member.past.tree / path).is_symlink():
            member.past.label(path, "frozen", "true")

    def change_mode(self, member: Member) -> None:
        path = self._existing(member)
        if not (member.past.tree / path).is_symlink():
            os.chmod(member.past.tree / path, self._chance.choice((0o600, 0o644, 0o755)))
            member.past.note("write", path)

    def link(self, member: Member) -> None:
        path = self._path()
        file = member.past.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.symlink_to(self._world.token())
        member.past.note("write", path)

    def large(self, member: Member) -> None:
        self._write(member, self._path(), f"{self._world.token()}\n".encode() + self._chance.randbytes(LARGE + 1000))

    def many(self, member: Member) -> None:
        count = self._chance.choice((20, 150))
        folder = f"pad/many{self._chance.randrange(3)}"
        for number in range(count):
            member.past.write(f"{folder}/{number}.md", self._world.token())

    def make_folder(self, member: Member) -> None:
        path = f"{self._chance.choice(FOLDERS)}/{self._chance.choice(('d1', 'd2', 'either'))}"
        if self._chance.random() < 0.6:
            (member.past.tree / path).mkdir(parents=True, exist_ok=True)
            member.past.note("write", path)
            if self._chance.random() < 0.5:
                member.past.write(f"{path}/in.md", f"{self._world.token()}\n")
        elif (member.past.tree / path).is_dir() and not os.listdir(member.past.tree / path):
            member.past.remove(path)

    def move_folder(self, member: Member) -> None:
        root = member.past.tree
        folders = [path for folder in FOLDERS for path in sorted((root / folder).glob("*")) if path.name[0] in "de"]
        folders = [path for path in folders if path.is_dir() and not path.is_symlink()]
        if folders:
            source = str(self._chance.choice(folders).relative_to(root))
            target = f"{self._chance.choice(FOLDERS)}/{self._chance.choice(('d1', 'd2', 'd3'))}"
            if not (root / target).exists() and not target.startswith(source):
                member.past.move(source, target)

    def undo(self, member: Member) -> None:
        path = self._chance.choice(("memory/a", "memory/b", "pad/t", self._existing(member)))
        with contextlib.suppress(CommandError, PermissionError):  # nothing to undo, an open file, a frozen one
            member.past.archive.rollbacks.undo(path, ALICE)

    def open_file(self, member: Member) -> None:
        path = self._existing(member)
        file = member.past.tree / path
        if file.is_file() and not file.is_symlink() and not member.handles:
            member.handles.append((os.open(file, os.O_RDWR | os.O_APPEND), path))

    def close_file(self, member: Member) -> None:
        """Write through a descriptor that may be open for long, and close it."""
        if not member.handles:
            return
        descriptor, path = member.handles.pop()
        os.write(descriptor, f"{self._world.token()}\n".encode())
        inode = os.fstat(descriptor).st_ino
        os.close(descriptor)
        root = member.past.tree
        for file in (root / path, *root.rglob("*")):
            if file.is_file() and not file.is_symlink() and file.stat().st_ino == inode:
                member.past.note("write", str(file.relative_to(root)))
                return
