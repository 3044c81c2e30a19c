"""Engines of shared logs for tests: a PostgreSQL server of our own, and a proxy that stops forwarding."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import children_of, eventually

PASSWORD = secrets.token_hex(8)
NOBODY = 65534


def find_binaries() -> Path | None:
    """Return the folder with `initdb`, as Debian or another distribution installs it."""
    program = shutil.which("initdb")
    if program is not None:
        return Path(program).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


class Postgres:
    """A server with its data in a temporary folder, on a socket there and on a port of this machine."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._data = folder / "data"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    def _run(self, program: str, *arguments: str) -> None:
        words = [str(self._binaries / program), *arguments]
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder, timeout=60
        )
        assert done.returncode == 0, done.stdout

    def begin(self) -> None:
        """Make the data folder and start."""
        if os.getuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-D", str(self._data), "-U", "ctxfs", f"--pwfile={password}", "--auth=trust", "--no-sync")
        (self._data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses='127.0.0.1'\nport={self.port}\nunix_socket_directories='{self.folder}'\n"
                "fsync=off\nshared_buffers=32MB\nmax_connections=60\n"
            )
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """Kill all processes of the server."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)  # it starts no process meanwhile
        processes = [pid, *children_of(pid)]
        for process in processes:
            os.kill(process, signal.SIGKILL)
        eventually("the server has ended", lambda: not any(Path(f"/proc/{process}").exists() for process in processes))

    def url(self, port: int | None = None, database: str = "postgres") -> str:
        """Return the URL of a TCP connection, without the password."""
        return f"postgresql://ctxfs@127.0.0.1:{port or self.port}/{database}"


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Yield a server, and stop and remove it. Skip the test if PostgreSQL or psycopg is missing."""
    pytest.importorskip("psycopg")
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="ctxfs-pg-"))
    server = Postgres(folder, binaries)
    try:
        server.begin()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Proxy:
    """A TCP proxy. While it is `cut` it forwards nothing and closes nothing, as a dead switch.

    `delay_seconds` delays what it forwards, in each direction. `requests` counts the pieces that clients send.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.delay_seconds = 0.0
        self.requests = 0
        self._clients: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    engine = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()  # the engine is down
                    continue
                self._sockets += [client, engine]
                self._clients.add(client)
                for source, target in ((client, engine), (engine, client)):
                    threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                self.requests += source in self._clients
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        self._flowing.clear()

    def heal(self) -> None:
        self._flowing.set()

    def close(self) -> None:
        self._flowing.set()
        for each in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
