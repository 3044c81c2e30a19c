"""Run programs that are hard on a file system, inside a mount: `make test-programs`, which installs them."""

import base64
import csv
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live

pytestmark = pytest.mark.fuse
ROOT = Path(__file__).parent.parent.parent
MISSING = [program for program in ("stress-ng", "fio", "git", "gcc", "npm") if shutil.which(program) is None]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    assert not MISSING, f"not installed: {MISSING}; run it by make test-programs"
    made = Live(tmp_path_factory.mktemp("programs"))
    made.run("init")
    made.run("mount", str(made.at))
    yield made
    # stress-ng nests directories deeper than versions go, which is reported where a commit meets them.
    errors = [error for error in made.errors() if "it lies in more than 256 directories" not in error["message"]]
    made.close()
    assert not errors, "the mount has logged errors"


@pytest.fixture(params=["pad", "memory/shared"])
def place(live: Live, request: pytest.FixtureRequest) -> Path:
    at = live.at / request.param / request.node.name.replace("/", "-").replace("[", "-").strip("]")[:100]
    at.mkdir()
    return at


def done(command: list[str], at: Path, seconds: float = 300, **environment: str) -> str:
    """Run a command in a directory and return its output; it must succeed."""
    ended = subprocess.run(
        command, cwd=at, capture_output=True, text=True, timeout=seconds, env={**os.environ, **environment}
    )
    assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
    return ended.stdout


def test_stress_ng_reports_no_failure(live: Live) -> None:
    at = live.at / "pad" / "stress"
    at.mkdir()
    # The omitted stressors test other parts of the kernel: binder, /proc, the notices of the whole machine.
    stress = ["stress-ng", "--class", "filesystem", "--exclude", "binderfs,procfs,fanotify", "--sequential", "1"]
    done([*stress, "--timeout", "1s", "--verify", "--temp-path", str(at)], at)
    assert os.listdir(at) == []


@pytest.mark.parametrize("engine", ["psync", "mmap", "libaio"])
def test_fio_verifies_its_own_writes(place: Path, engine: str) -> None:
    job = [
        "fio",
        "--name=job",
        f"--ioengine={engine}",
        "--rw=randrw",
        "--bs=512-64k",
        "--size=24m",
        "--numjobs=2",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
        "--output-format=json",
        f"--direct={int(engine == 'libaio')}",
        f"--directory={place}",
    ]
    report = json.loads(done(job, place))
    assert [job_result["error"] for job_result in report["jobs"]] == [0, 0]
    assert sum(job_result["write"]["io_kbytes"] for job_result in report["jobs"]) > 0


def test_git_clones_commits_and_finds_its_objects_whole(place: Path) -> None:
    done(["git", "clone", "--quiet", "--no-local", str(ROOT), "clone"], place)
    clone = place / "clone"
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for number in range(200):
        (clone / f"file-{number % 17}.txt").write_text(f"change {number}\n")
        done(["git", "add", "-A"], clone)
        done(["git", *identity, "commit", "--quiet", "-m", f"change {number}"], clone)
    done(["git", "repack", "-adq"], clone)
    assert "missing" not in done(["git", "fsck", "--full", "--strict"], clone)
    assert done(["git", "status", "--porcelain"], clone) == ""
    assert int(done(["git", "rev-list", "--count", "HEAD"], clone)) >= 200


_WRITER = """
import sqlite3, sys, itertools
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(f"PRAGMA journal_mode={sys.argv[2]}")
db.execute("CREATE TABLE IF NOT EXISTS facts (number INTEGER PRIMARY KEY, text TEXT)")
for number in itertools.count(db.execute("SELECT coalesce(max(number), -1) + 1 FROM facts").fetchone()[0]):
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO facts VALUES (?, ?)", (number, "x" * (number % 5000)))
    db.execute("COMMIT")
    print(number, flush=True)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_is_whole_after_its_writer_was_killed(place: Path, mode: str) -> None:
    database = place / f"{mode}.db"
    last = -1
    for turn in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(database), mode], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(20 + turn * 13):
                last = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        with sqlite3.connect(database) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("SELECT max(number) FROM facts").fetchone()[0] >= last, "committed rows are present"
            assert db.execute("SELECT count(*), max(number) + 1 FROM facts").fetchone()[0] >= last + 1
        db.close()


def test_a_c_project_is_built_and_runs(place: Path) -> None:
    """Build SQLite itself, from the sources that an npm package ships."""
    done(["npm", "pack", "--silent", "better-sqlite3@12.4.1"], place)
    done(["tar", "xf", next(place.glob("*.tgz")).name], place)
    source = place / "package" / "deps" / "sqlite3"
    done(["gcc", "-O0", "-c", "-fPIC", "sqlite3.c", "-o", "sqlite3.o"], source)
    done(["ar", "rcs", "libsqlite3.a", "sqlite3.o"], source)
    (source / "main.c").write_text(
        '#include "sqlite3.h"\n#include <stdio.h>\n'
        "static int row(void *p, int n, char **v, char **c) { puts(v[0]); return 0; }\n"
        'int main(void) { sqlite3 *db; if (sqlite3_open("made.db", &db)) return 1;\n'
        'return sqlite3_exec(db, "CREATE TABLE t (x); INSERT INTO t VALUES (42); SELECT x FROM t", row, 0, 0); }\n'
    )
    done(["gcc", "main.c", "-L.", "-lsqlite3", "-lm", "-lpthread", "-ldl", "-o", "main"], source)
    assert done(["./main"], source) == "42\n"


def test_pip_installs_a_tree_that_is_whole_and_imports(place: Path) -> None:
    into, cache = place / "packages", place / "tmp"
    cache.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(into)]
    done([*install, "sympy==1.14.0", "networkx==3.5"], place, TMPDIR=str(cache))
    checked = 0
    for record in into.glob("*.dist-info/RECORD"):
        for name, digest, size in csv.reader(record.read_text().splitlines()):
            if digest and not name.startswith(".."):  # scripts go elsewhere with --target
                data = (into / name).read_bytes()
                assert len(data) == int(size)
                computed = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={computed}", name
                checked += 1
    assert checked > 2000
    output = done([sys.executable, "-c", "import sympy; print(sympy.integrate('2*x'))"], place, PYTHONPATH=str(into))
    assert output == "x**2\n"
