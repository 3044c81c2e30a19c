"""Draw the terminal session of the README from a real run: `python docs/session.py [--check]`.

It makes a store in a temporary home, mounts it, runs the commands below in bash and writes `docs/session.svg`. With `--check` it
compares the text of the picture with a new run and exits with 1 if they differ: the picture shows only real output.
"""

import argparse
import html
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PICTURE = Path(__file__).with_name("session.svg")
HANDBOOK = {
    "rotation.md": "# Key rotation\n\nSigning keys rotate every ninety days. Ada starts it; the old key stays valid a week.\n",
    "release.md": "# Releases\n\nTwo maintainers approve a release. The build is signed with the current signing key.\n",
    "incidents.md": "# Incidents\n\nAn open incident has one owner, who writes the summary within two days.\n",
}
SESSION = [
    "ls 'ctx/search/how often do keys rotate'",
    "cat 'ctx/search/how often do keys rotate/context@120.md'",
    "echo 'Keys rotate every 30 days.' > ctx/memory/alice/keys.md",
    "cat ctx/memory/alice/.versions/keys.md/prev",
    "ctxfs undo memory/alice/keys.md > /dev/null; cat ctx/memory/alice/keys.md",
]
WIDTH = 92
THEME = TerminalTheme(
    (253, 253, 250),
    (36, 41, 46),
    [
        (36, 41, 46),
        (180, 50, 40),
        (30, 120, 60),
        (150, 105, 0),
        (20, 90, 170),
        (120, 60, 150),
        (20, 120, 130),
        (90, 96, 102),
    ],
)


@contextmanager
def demo_store(handbook: Mapping[str, str]) -> Iterator[Callable[[str], str]]:
    """Yield bash in a temporary home with a mounted store at `ctx`, which has the handbook as a source, indexed."""
    with tempfile.TemporaryDirectory(prefix="ctxfs-session-") as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CTXFS_")}
        environment |= {
            "HOME": home,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }
        environment["XDG_DATA_HOME"] = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
        environment["CTXFS_STORE"] = f"{home}/store"

        def bash(command: str) -> str:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=home,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=True,
            )
            return done.stdout.rstrip("\n")

        folder = Path(home) / "handbook"
        folder.mkdir()
        for name, text in handbook.items():
            (folder / name).write_text(text)
        try:
            bash("ctxfs init && ctxfs add handbook && ctxfs mount ctx && ctxfs status --wait meaning")
            yield bash
        finally:
            subprocess.run(["ctxfs", "unmount", "--all"], cwd=home, env=environment, capture_output=True, check=False)
            shutil.rmtree(f"{home}/store", ignore_errors=True)


def run_session() -> list[tuple[str, str]]:
    """Return (command, output) of each command, from a store of its own."""
    with demo_store(HANDBOOK) as bash:
        bash("mkdir ctx/memory/alice && echo 'Keys rotate every 90 days.' > ctx/memory/alice/keys.md && ctxfs commit")
        bash("ctxfs status --wait meaning")
        transcript = []
        for command in SESSION:
            transcript.append((command, bash(command)))
            bash("ctxfs commit")
        return transcript


def draw(transcript: list[tuple[str, str]]) -> str:
    """Return the picture as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for command, output in transcript:
        console.print(Text.assemble(("$ ", "green bold"), (command, "bold")), soft_wrap=False)
        if output:
            console.print(Text(output))
    return console.export_svg(title="ctxfs", theme=THEME, unique_id="session")


def text_of(svg: str) -> list[str]:
    """Return the lines of text in a picture."""
    return [html.unescape(line).replace("\xa0", " ").rstrip() for line in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def main() -> int:
    """Write the picture, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the picture instead of writing it")
    arguments = parser.parse_args()
    picture = draw(run_session())
    if not arguments.check:
        PICTURE.write_text(picture)
        return 0
    if text_of(picture) == text_of(PICTURE.read_text()):
        return 0
    print("docs/session.svg shows another session: python docs/session.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
