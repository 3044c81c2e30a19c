"""The tables of the catalog, and the rows that are read from them.

Values of `files.state`:
`pending`: the chunks are stored, but the full-text index has not committed them yet.
`words`: the full-text index contains the chunks.
`gone`: the file was deleted; the row is dropped after the full-text index has removed its chunks.
`skipped`: the file is only listed; `note` gives the reason.
In the other states `note` is empty, or states which part of a large file is searched.

Semantic search does not find a chunk whose `vector` is NULL. A chunk number is never reused.
`chunks.said` is the time of the message of a record, in seconds since the epoch; NULL for the chunks of files.
The path of a part of a session's file is a child of the file's path (`index/extract/session_parts.py`); its size is the
length of the part, its `ctime_ns` the offset in the file.
`files.noise` is the reason why a file is noise (`ctxfs/model/noise.py`), empty for other files. The chunks of noise are
not `embeddable`: they never get a vector, and do not wait for one.
`attributes` has the attributes `user.ctx.*` of a file, and with the prefix `text.` the labels that its text gives it;
`text.front_matter` is the front matter, which is in no chunk; `text.users` has the names of users by their ids, as JSON.
`vectors.next_stage` is the next `Stage` of a vector that does not contain its whole text yet; 0 if it does.
A refined vector is a new row, because the numbers of vectors identify their content.
`changes` lists, in order, the files whose columns search has to reload (0: all files).
A reader remembers its position in that list.
"""

from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import NamedTuple

SCHEMA_VERSION = 11
SCHEMA = """
CREATE TABLE files(
  id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB UNIQUE NOT NULL, source TEXT NOT NULL, size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, sha256 BLOB, kind TEXT NOT NULL, state TEXT NOT NULL,
  note TEXT NOT NULL DEFAULT '', noise TEXT NOT NULL DEFAULT '');
CREATE INDEX files_noise ON files(noise) WHERE noise != '';
CREATE INDEX files_state ON files(state) WHERE state IN ('pending', 'gone');
CREATE INDEX files_source ON files(source);
CREATE TABLE attributes(
  file INTEGER NOT NULL REFERENCES files(id) ON DELETE CASCADE, name TEXT NOT NULL, value TEXT NOT NULL);
CREATE INDEX attributes_file ON attributes(file);
CREATE INDEX attributes_supersedes ON attributes(file) WHERE name='supersedes';
CREATE INDEX attributes_users ON attributes(file) WHERE name='text.users';
CREATE TABLE chunks(
  id INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER NOT NULL REFERENCES files(id) ON DELETE CASCADE,
  first INTEGER NOT NULL, last INTEGER NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL, author TEXT NOT NULL, day INTEGER,
  traits INTEGER NOT NULL, words INTEGER NOT NULL, vector INTEGER,
  embeddable INTEGER NOT NULL DEFAULT 1, said INTEGER);
CREATE INDEX chunks_author ON chunks(author) WHERE author != '';
CREATE INDEX chunks_file ON chunks(file);
CREATE INDEX chunks_vector ON chunks(vector);
CREATE INDEX chunks_waiting ON chunks(id) WHERE vector IS NULL AND embeddable;
CREATE TABLE models(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE NOT NULL, dimensions INTEGER NOT NULL, spec TEXT NOT NULL);
CREATE TABLE vectors(
  id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, digest BLOB NOT NULL, vector BLOB NOT NULL,
  next_stage INTEGER NOT NULL DEFAULT 0, UNIQUE(model, digest));
CREATE INDEX vectors_unfinished ON vectors(next_stage) WHERE next_stage>0;
CREATE TABLE coming(chunk INTEGER PRIMARY KEY REFERENCES chunks(id) ON DELETE CASCADE, vector INTEGER NOT NULL);
CREATE TABLE changes(id INTEGER PRIMARY KEY AUTOINCREMENT, file INTEGER NOT NULL);
CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
COLUMNS_FILE = "columns.npz"  # a copy of columns of the catalog, which search writes
BORN_FACT = "born"  # the identifier of the catalog
_PART_MARK = "/\0"  # no name of a file contains a zero byte
_LINE_DIGITS = 12
_FIRST_PART = f"{_PART_MARK}{1:0{_LINE_DIGITS}}"
# The number of files in each state, without those that are gone. A session's file has one first part.
COUNT_STATES = (
    f"SELECT state, count(*) FROM files WHERE state!='gone' AND (substr(path, -{len(_FIRST_PART)}) = x'{_FIRST_PART.encode().hex()}' "
    f"OR substr(path, -{len(_FIRST_PART)}, {len(_PART_MARK)}) != x'{_PART_MARK.encode().hex()}') GROUP BY state"
)
SELECT_USERS = (
    "SELECT f.id, f.path, a.value FROM attributes a JOIN files f ON f.id=a.file "
    "WHERE a.name='text.users' AND f.state IN ('pending', 'words') ORDER BY f.path"
)
FileStat = tuple[int, int, int, int]  # size in bytes, mtime_ns, inode, ctime_ns (changed by setxattr)


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of the table `files`."""

    id: int
    path: str
    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int
    sha256: bytes | None
    state: str
    noise: str

    @property
    def stat(self) -> "FileStat":
        """The stat values of the file when it was indexed."""
        return self.size, self.mtime_ns, self.inode, self.ctime_ns


class ChunkRow(NamedTuple):
    """A chunk, with the fields of its file that a hit needs. A tuple, because hundreds are created for one query.

    `note` names the part of a large file that is searched; empty for other files.
    `named_by` is the path of the list from which names in the text are (`search/user_names.py`); empty without any.
    """

    id: int
    path: str
    first: int
    last: int
    heading: str
    text: str
    kind: str
    mtime_ns: int
    sha256: str
    author: str
    day: int | None
    said: int | None = None
    note: str = ""
    named_by: str = ""


NOT_EMBEDDED = -2  # in the place of a vector: a chunk that never gets one
# The columns of a chunk for ranking: number, file, folder, kind, author, day, traits, words, vector (None: not yet).
RankingRow = tuple[int, int, str, str, str, int | None, int, int, int | None]


@dataclass(frozen=True, slots=True)
class Counts:
    """The totals of the catalog, for the status report."""

    files: int
    searchable: int
    skipped: int
    chunks: int
    waiting: int
    embeddable: int


def part_path(path: str, first_line: int) -> str:
    """Return the path of the part of a file that begins at a line; the order of such paths is that of the lines."""
    return f"{path}{_PART_MARK}{first_line:0{_LINE_DIGITS}}"


def tree_path(path: str) -> str:
    """Return the path in the tree of a file in the catalog: for a part of a file, the path of that file."""
    return path.partition(_PART_MARK)[0]


def first_line_of(path: str) -> int:
    """Return the line at which a part of a file begins; 1 for another file."""
    number = path.partition(_PART_MARK)[2]
    return int(number) if number else 1


def folder_of(path: str) -> str:
    """Return the folder of a file in the catalog: for a part of a file, that of the file."""
    return tree_path(path).rpartition("/")[0]


def drop_columns(folder: HostPath) -> None:
    """Remove the copy of the columns, which contains names of folders and authors."""
    (folder / COLUMNS_FILE).unlink(missing_ok=True)
