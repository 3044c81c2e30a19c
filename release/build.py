"""Build the files of a release: a manylinux wheel and a source distribution, checked as an index checks them.

`python release/build.py [--out DIR] [--home URL] [--tools DIR]`

The build works on a copy of the files that git knows, so that no output of earlier builds gets in. The copy gets the
manual pages. With `--home`, the address of the repository, it also gets the project's addresses and a README whose links
are absolute, as a page of an index needs them. The programs of tools.txt are installed into `--tools` first.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "release" / "tools.txt"
_RELATIVE_LINK = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)]+)\)")
_ADDRESSES = {
    "Homepage": "{home}",
    "Documentation": "{home}/blob/main/docs/index.md",
    "Changes": "{home}/blob/main/CHANGELOG.md",
    "Issues": "{home}/issues",
}


def run(*command: str | Path, folder: Path | None = None, path: Path | None = None) -> str:
    """Run a command, with `path` first in PATH, and return its output. End the build with its errors if it fails."""
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else None
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def copy_files(target: Path) -> None:
    """Copy the files that git knows or would add, links as links."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=ROOT)
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def set_home(source: Path, home: str) -> None:
    """Write the addresses of the project into pyproject.toml, and absolute links into the README."""
    settings = source / "pyproject.toml"
    rows = [f'{name} = "{address.format(home=home)}"' for name, address in _ADDRESSES.items()]
    text = settings.read_text(encoding="utf-8")
    settings.write_text(
        text.replace("[project.scripts]", "\n".join(["[project.urls]", *rows, "", "[project.scripts]"]))
    )
    readme = source / "README.md"
    readme.write_text(make_links_absolute(readme.read_text(encoding="utf-8"), home), encoding="utf-8")


def make_links_absolute(text: str, home: str) -> str:
    """Return Markdown whose relative links and pictures lead to the repository at `home`."""
    return _RELATIVE_LINK.sub(
        lambda link: f"{link[1]}{link[2]}{home}/{'raw' if link[1] else 'blob'}/main/{link[3]})", text
    )


def add_manual(source: Path) -> None:
    """Write the manual pages into the copy, and list them as files of the wheel."""
    run(sys.executable, ROOT / "release" / "manual.py", source / "man", folder=ROOT)
    with (source / "pyproject.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[tool.setuptools.data-files]\n"share/man/man1" = ["man/*.1"]\n')
    (source / "MANIFEST.in").write_text("graft man\n")


def install_tools(folder: Path) -> Path:
    """Install the programs of tools.txt, unless the folder has them; return the folder of their commands."""
    programs, stamp = folder / "bin", folder / "tools.txt"
    if not stamp.exists() or stamp.read_bytes() != TOOLS.read_bytes():
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, "--require-hashes", "-r", TOOLS)
        shutil.copy(TOOLS, stamp)
    return programs


def build(out: Path, home: str, tools: Path) -> list[Path]:
    """Build and check the wheel and the source distribution; return their paths in `out`."""
    programs = install_tools(tools)
    with tempfile.TemporaryDirectory(prefix="ctxfs-build-") as scratch:
        source, plain = Path(scratch) / "source", Path(scratch) / "plain"
        copy_files(source)
        if home:
            set_home(source, home.rstrip("/"))
        add_manual(source)
        run(programs / "python", "-m", "build", "--no-isolation", "--outdir", plain, source, path=programs)
        (wheel,) = plain.glob("*.whl")
        (archive,) = plain.glob("*.tar.gz")
        out.mkdir(parents=True, exist_ok=True)
        repaired = Path(scratch) / "repaired"
        run(programs / "auditwheel", "repair", "--strip", "-w", repaired, wheel, path=programs)
        files = [Path(shutil.copy(file, out)) for file in (*repaired.glob("*.whl"), archive)]
    run(programs / "python", "-m", "twine", "check", "--strict", *files)
    return files


def main() -> None:
    """Build, and print the files with their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the results [default: dist]")
    parser.add_argument("--home", default="", help="address of the repository, for the page of an index")
    parser.add_argument("--tools", type=Path, default=ROOT / "build" / "release", help="environment of the programs")
    arguments = parser.parse_args()
    for file in build(arguments.out.resolve(), arguments.home, arguments.tools.resolve()):
        print(f"{file} ({file.stat().st_size // 1000} kB)")
    if not arguments.home:
        print("without --home: the page of an index has no address of the project, and relative links")


if __name__ == "__main__":
    main()
