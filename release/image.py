"""Build the container image and try it: a store, its rules, two agents, the page, a mount, and a restart.

`python release/image.py [--engine COMMAND] [--build-option O]… [--run-option O]… [--extras NAMES] [--tag NAME]`

The engine is docker, podman or buildah, whichever works here. buildah only builds. Without any, nothing is built, and the
exit code is 3.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
ROOT = Path(__file__).resolve().parent.parent
AGENT = ROOT / "release" / "container" / "agent.py"
POLICY = ROOT / "release" / "container" / "policy.toml"
EXIT_NO_ENGINE = 3
MAX_START_SECONDS = 120
MAX_COMMAND_SECONDS = 1800
_ENGINES = ("docker", "podman", "buildah")
_COMPILERS = "gcc cc g++ c++ clang make cargo"
_FACT = "Rotate the signing keys every ninety days with keyctl."


class TrialError(Exception):
    """Raised if the image does not do what its documentation promises."""


@dataclass(frozen=True)
class Engine:
    """A container engine: the words that start it, and options that each `build` or `run` here needs."""

    words: Sequence[str]
    build_options: Sequence[str] = ()
    run_options: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The name of its program."""
        return Path(self.words[0]).name

    def call(self, *arguments: str, is_checked: bool = True) -> str:
        """Return the output of a command. Raise TrialError if it fails, unless `is_checked` is False."""
        done = subprocess.run(
            [*self.words, *arguments], capture_output=True, text=True, timeout=MAX_COMMAND_SECONDS, errors="replace"
        )
        if done.returncode and is_checked:
            command = shlex.join([*self.words, *arguments])
            raise TrialError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def build(self, tag: str, extras: str) -> None:
        """Build the image; its output is shown."""
        form = () if self.name == "docker" else ("--format", "docker")  # that of OCI has no health check
        options = [*form, *self.build_options, "--build-arg", f"EXTRAS={extras}", "-t", tag]
        words = [*self.words, "build", *options, str(ROOT)]
        if subprocess.run(words, timeout=MAX_COMMAND_SECONDS).returncode:
            raise TrialError(f"{shlex.join(words)} failed")

    def run(self, *arguments: str) -> str:
        """Return the output of a container that ends by itself."""
        return self.call("run", "--rm", *self.run_options, *arguments)


def find_engine() -> Sequence[str]:
    """Return the words of the first engine that works here; none if there is none."""
    for name in _ENGINES:
        program = shutil.which(name)
        if program and subprocess.run([program, "info"], capture_output=True, timeout=60).returncode == 0:
            return [program]
    return []


class Trial:
    """One run of the image, with a volume and containers of its own."""

    def __init__(self, engine: Engine, tag: str) -> None:
        self._engine = engine
        self._tag = tag
        self._name = f"ctxfs-trial-{uuid.uuid4().hex[:8]}"
        self._volume = f"{self._name}:/data"

    def run_all(self) -> None:
        """Run every step, and remove the containers and the volume afterwards."""
        try:
            for step in (self.check_image, self.check_store, self.check_agents, self.check_page, self.check_restart):
                step()
                _report(step)
            self.try_mount()
        finally:
            for name in (self._page, self._name):
                self._engine.call("rm", "-f", name, is_checked=False)
            self._engine.call("volume", "rm", "-f", self._name, is_checked=False)

    @property
    def _page(self) -> str:
        return f"{self._name}-page"

    def check_image(self) -> None:
        """Check that the user has no privileges, and the image has no compiler."""
        output = self._engine.run(self._tag, "bash", "-c", f"id -u; command -v {_COMPILERS} || true; ctxfs --version")
        _expect(output.startswith("1000\nctxfs "), output)

    def check_store(self) -> None:
        """Check that a container makes a store with the given rules, becomes healthy, and finds a file of a folder."""
        rules = f"{POLICY}:/etc/ctxfs/policy.toml:ro"
        self._start(self._name, "-v", rules, self._tag)
        self._wait_healthy()
        self._exec(
            "bash", "-c", f"mkdir -p /data/notes && echo '{_FACT}' > /data/notes/keys.md && ctxfs add /data/notes"
        )
        self._exec("ctxfs", "status", "--wait", "words")
        self._wait_for_answer()
        _expect("alice" in self._exec("ctxfs", "policy", "list"), "the rules of the file are in force")

    def check_agents(self) -> None:
        """Check that two agents with tokens write and search over HTTP; one may write shared memory, the other may not."""
        may_write = {}
        for agent in ("alice", "bob"):
            token = self._exec("ctxfs", "token", "issue", f"agent:{agent}", "--ttl", "1h").strip()
            script = 'umask 77; printf %s "$TOKEN" > /tmp/token; python3 /agent.py'
            for note in (f"memory/{agent}/seen.md", f"memory/shared/{agent}.md"):
                words = ["-e", f"TOKEN={token}", "-e", "CTXFS_URL=http://127.0.0.1:8200", "-e", f"NOTE={note}"]
                words += ["-e", "CTXFS_TOKEN_FILE=/tmp/token", "-e", "QUESTION=how are signing keys rotated?"]
                words += ["-v", f"{AGENT}:/agent.py:ro", "--network", f"container:{self._name}", self._tag]
                try:
                    _expect("keys.md" in self._engine.run(*words, "bash", "-c", script), "the agent finds the file")
                    may_write[note] = True
                except TrialError as error:
                    _expect("EACCES" in str(error), str(error))
                    may_write[note] = False
        expected = {"memory/alice/seen.md", "memory/bob/seen.md", "memory/shared/alice.md"}
        _expect({note for note, may in may_write.items() if may} == expected, str(may_write))

    def check_page(self) -> None:
        """Check that the page answers under its published address, in a container that shares only the volume."""
        self._start(self._page, self._tag, "ctxfs-page")
        (path,) = _wait_for(lambda: re.findall(r"http://127\.0\.0\.1:8300(/\S+)", self._logs())[:1])
        fetch = (
            "import http.client, os, sys; c = http.client.HTTPConnection(os.popen('hostname -i').read().split()[0], 8300); "
            "c.request('GET', sys.argv[1], headers={'Host': '127.0.0.1:8300'}); print(c.getresponse().status)"
        )
        status = self._exec("python3", "-c", fetch, path, container=self._page).strip()
        _expect(status in ("200", "302", "303"), f"the page answers with {status}")

    def check_restart(self) -> None:
        """Check that the content of the volume is there after a restart."""
        self._engine.call("rm", "-f", self._page)
        self._engine.call("restart", self._name)
        self._wait_healthy()
        self._wait_for_answer()

    def try_mount(self) -> None:
        """Check that the tree is mounted in a container with /dev/fuse and SYS_ADMIN."""
        if not os.path.exists("/dev/fuse"):
            print("NOT TRIED: a mount, because /dev/fuse does not exist here")
            return
        self._engine.call("rm", "-f", self._name)  # its daemon would mount in its own container
        options = ["--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "-v", self._volume]
        script = "ctxfs mount ~/ctx && cat ~/ctx/knowledge/notes/keys.md && echo mounted > ~/ctx/memory/shared/m.md"
        output = self._engine.run(*options, self._tag, "bash", "-c", f"{script} && cat ~/ctx/memory/shared/m.md")
        _expect(_FACT in output and "mounted" in output, output)
        _report(self.try_mount)

    def _start(self, name: str, *arguments: str) -> None:
        self._engine.call("run", "-d", "--name", name, *self._engine.run_options, "-v", self._volume, *arguments)

    def _logs(self) -> str:
        return self._engine.call("logs", self._page)

    def _exec(self, *words: str, container: str = "") -> str:
        return self._engine.call("exec", container or self._name, *words)

    def _wait_healthy(self) -> None:
        _wait_for(self._is_healthy)

    def _is_healthy(self) -> bool:
        try:
            self._exec("ctxfs-healthy")
        except TrialError:
            return False
        return True

    def _wait_for_answer(self) -> None:
        question = ("ctxfs", "search", "how are signing keys rotated?")
        _wait_for(lambda: "ninety days" in self._engine.call("exec", self._name, *question, is_checked=False))


def _wait_for(probe: Callable[[], Result]) -> Result:
    """Return the first true result of a probe. Raise TrialError after the limit."""
    end = time.monotonic() + MAX_START_SECONDS
    while not (result := probe()):
        if time.monotonic() > end:
            raise TrialError(f"not started after {MAX_START_SECONDS} s")
        time.sleep(0.5)
    return result


def _report(step: Callable[[], None]) -> None:
    print(f"ok: {(step.__doc__ or '').removeprefix('Check that ')}", flush=True)


def _expect(is_true: bool, message: str) -> None:
    if not is_true:
        raise TrialError(message)


def main() -> None:
    """Build and try the image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", default="", help="command of the engine [default: the first that works here]")
    parser.add_argument("--build-option", action="append", default=[], help="option of its `build`; repeatable")
    parser.add_argument("--run-option", action="append", default=[], help="option of its `run`; repeatable")
    parser.add_argument("--extras", default="web", help="extras of the package [default: web]")
    parser.add_argument("--tag", default="ctxfs", help="name of the image [default: ctxfs]")
    parser.add_argument("--no-build", action="store_true", help="try an image that is there")
    arguments = parser.parse_args()
    words = shlex.split(arguments.engine) or find_engine()
    if not words:
        print(f"NO IMAGE WAS BUILT: none of {', '.join(_ENGINES)} works here; nothing was tried", file=sys.stderr)
        sys.exit(EXIT_NO_ENGINE)
    engine = Engine(words, arguments.build_option, arguments.run_option)
    try:
        if not arguments.no_build:
            engine.build(arguments.tag, arguments.extras)
        if engine.name == "buildah":
            print("NOT TRIED: buildah builds, and runs no containers; docker or podman is needed", file=sys.stderr)
        else:
            Trial(engine, arguments.tag).run_all()
    except TrialError as error:
        sys.exit(f"FAILED: {error}")
    print(f"the image is {arguments.tag}")


if __name__ == "__main__":
    main()
