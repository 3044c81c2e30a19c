"""Bundles: a round trip, rights, trust and signatures, and hostile bundles, over a store opened in this process."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ctxfs.bundles.header import HEADER_NAME, BundleEntry, Header, encode_header, parse_header
from ctxfs.cli.main import cli
from ctxfs.daemon.session import LocalSession
from ctxfs.model.change import Put, SetMeta
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import Layout, create_store

FILES = {
    "fact/keys.md": b"Keys rotate every 90 days.\n",
    "fact/empty.md": b"",
    "episodic/\xc3\xbcber.md".encode("latin-1").decode(): "Zürich\n".encode(),
    "program.sh": b"#!/bin/sh\n",
    "binary.bin": bytes(range(256)) * 20,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def make_store(folder: Path) -> Layout:
    return create_store(folder)


@pytest.fixture
def source(folder: Path) -> Layout:
    """Return a store with memories of one agent, an empty directory, attributes and a link."""
    layout = make_store(folder / "source")
    root = layout.tree / "memory" / "alice"
    for name, data in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (root / "program.sh").chmod(0o755)
    (root / "nothing").mkdir()
    os.symlink("/etc/passwd", root / "link")
    os.setxattr(root / "fact/keys.md", "user.ctx.kind", b"fact")
    os.setxattr(root / "fact/keys.md", "user.ctx.pinned", b"true")
    os.setxattr(root / "fact/keys.md", "user.mine", b"\xff\x00")
    return layout


@pytest.fixture
def target(folder: Path) -> Layout:
    return make_store(folder / "target")


def run(layout: Layout, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["--store", str(layout.root), *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit | OSError | CommandError):
        raise done.exception
    assert (done.exit_code if done.exception is None or isinstance(done.exception, SystemExit) else 1) == code, done
    return done.output + str(done.exception or "")


def export(layout: Layout, file: Path, *options: str) -> dict[str, object]:
    summary: dict[str, object] = json.loads(
        "{" + run(layout, "export", "memory/alice", str(file), "--json", *options).partition("{")[2]
    )
    return summary


def files_below(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("name", ["cube.tar", "cube"])
def test_round_trip_has_the_same_bytes_and_the_same_tree_hash(
    folder: Path, source: Layout, target: Layout, name: str
) -> None:
    exported = export(source, folder / name)
    assert exported["files"] == len(FILES)
    assert exported["left_out"] == 1, "the link"
    imported = json.loads(run(target, "import", "bundle", str(folder / name), "--json"))
    assert imported["tree"] == exported["tree"]
    assert imported["version"]["op"] == "import"
    here, there = (layout.tree / "memory" / "alice" for layout in (source, target))
    assert files_below(there) == files_below(here)
    assert (there / "nothing").is_dir()
    assert not os.path.lexists(there / "link")
    log = json.loads(run(target, "log", "memory/alice", "--json"))
    assert [entry["op"] for entry in log] == ["import"], "the import is one version"
    assert export(target, folder / "third.tar")["tree"] == exported["tree"]
    unchanged = json.loads(run(target, "import", "bundle", str(folder / name), "--json"))
    assert unchanged["version"] is None, "a second import changes nothing"


def test_unsigned_files_are_untrusted_and_bind_nobody(folder: Path, source: Layout, target: Layout) -> None:
    run(source, "export", "memory/alice", str(folder / "cube.tar"))
    assert "untrusted" in run(target, "import", "bundle", str(folder / "cube.tar"), "--to", "memory/bob")
    file = target.tree / "memory/bob/fact/keys.md"
    attributes = {name: os.getxattr(file, name) for name in os.listxattr(file)}
    assert attributes["user.ctx.trust"] == b"untrusted"
    assert attributes["user.ctx.kind"] == b"fact"
    assert attributes["user.ctx.source"] == b"bundle:alice"
    assert attributes["user.mine"] == b"\xff\x00"
    assert "user.ctx.pinned" not in attributes
    assert "untrusted" in target.marks.read_text()


def make_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True)
    return key


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
def test_only_a_listed_key_makes_files_trusted(folder: Path, source: Layout, target: Layout) -> None:
    ada, eve = make_key(folder, "ada"), make_key(folder, "eve")
    (target.root / "allowed_signers").write_text(f"ada@example.org {ada.with_suffix('.pub').read_text()}")
    for key in (ada, eve):
        run(source, "export", "memory/alice", str(folder / f"{key.name}.tar"), "--sign", str(key))
    assert "signed by ada@example.org" in run(target, "import", "bundle", str(folder / "ada.tar"))
    file = target.tree / "memory/alice/fact/keys.md"
    assert os.getxattr(file, "user.ctx.pinned") == b"true"
    assert "user.ctx.trust" not in os.listxattr(file)
    assert "untrusted" in run(target, "import", "bundle", str(folder / "eve.tar"), "--to", "memory/eve")
    assert os.getxattr(target.tree / "memory/eve/fact/keys.md", "user.ctx.trust") == b"untrusted"
    # The signature of another header by the listed key is no signature of this one.
    run(source, "export", "memory/alice", str(folder / "forged"), "--sign", str(ada))
    header = json.loads((folder / "forged" / HEADER_NAME).read_text())
    header["descriptive"]["name"] = "forged"
    (folder / "forged" / HEADER_NAME).write_text(json.dumps(header))
    assert "did not sign" in run(target, "import", "bundle", str(folder / "forged"), "--to", "memory/forged", code=1)
    assert not (target.tree / "memory/forged").exists()


def test_history_has_each_version_and_its_content(folder: Path, source: Layout, target: Layout) -> None:
    run(source, "commit")
    (source.tree / "memory/alice/fact/keys.md").write_bytes(b"Keys rotate every 30 days.\n")
    run(source, "export", "memory/alice", str(folder / "cube"), "--history")
    lines = [json.loads(line) for line in (folder / "cube/history.jsonl").read_text().splitlines()]
    versions = [line["sha256"] for line in lines if line["path"] == "fact/keys.md"]
    assert [(folder / "cube/versions" / digest).read_bytes() for digest in versions] == [
        b"Keys rotate every 90 days.\n",
        b"Keys rotate every 30 days.\n",
    ]
    assert f"earlier versions stay in '{folder / 'cube'}'" in run(target, "import", "bundle", str(folder / "cube"))
    (folder / "cube/versions" / versions[0]).write_bytes(b"forged\n")
    assert "hash" in run(target, "import", "bundle", str(folder / "cube"), "--to", "memory/bob", code=1)


def _forge_reason(cube: Path) -> None:
    file = cube / "history.jsonl"
    file.write_text(file.read_text().replace('"reason": ""', '"reason": "forged"', 1))


def _drop_line(cube: Path) -> None:
    file = cube / "history.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))


def _add_content(cube: Path) -> None:
    (cube / "versions" / hashlib.sha256(b"planted\n").hexdigest()).write_bytes(b"planted\n")


def _name_no_history(cube: Path) -> None:
    header = json.loads((cube / HEADER_NAME).read_text())
    del header["descriptive"]["history_sha256"]
    (cube / HEADER_NAME).write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_forge_reason, "does not have the hash of its header"),
        (_drop_line, "does not have the hash of its header"),
        (_add_content, "is of no version"),
        (_name_no_history, "is not in its header"),
        (lambda cube: next((cube / "versions").iterdir()).unlink(), "is missing"),
        (lambda cube: (cube / "history.jsonl").unlink(), "is of no version"),
        (lambda cube: shutil.rmtree(cube / "versions"), "is missing"),
    ],
)
def test_changed_history_refuses_the_bundle(
    folder: Path, source: Layout, target: Layout, damage: Callable[[Path], object], fault: str
) -> None:
    run(source, "commit")
    export(source, folder / "cube", "--history")
    damage(folder / "cube")
    assert fault in run(target, "import", "bundle", str(folder / "cube"), code=1)
    assert not (target.tree / "memory/alice").exists()


@pytest.mark.parametrize("name", ["cube", "cube.tar"])
def test_import_of_a_history_adds_one_version_and_keeps_the_others_in_the_bundle(
    folder: Path, source: Layout, target: Layout, name: str
) -> None:
    run(source, "commit")
    (source.tree / "memory/alice/fact/keys.md").write_bytes(b"Keys rotate every 30 days.\n")
    exported = export(source, folder / name, "--history")
    imported = json.loads(run(target, "import", "bundle", str(folder / name), "--json"))
    assert imported["history"] == str(folder / name)
    assert imported["tree"] == exported["tree"]
    (entry,) = json.loads(run(target, "log", "--json", "memory/alice/fact/keys.md"))
    assert entry["revision"] == imported["version"]["revision"]
    assert run(target, "show", "memory/alice/fact/keys.md") == "Keys rotate every 30 days.\n"
    again = export(target, folder / f"again-{name}", "--history")
    assert again["files"] == exported["files"]


def test_agent_exports_what_it_may_read_and_imports_where_it_may_write(folder: Path, source: Layout) -> None:
    (source.tree / "memory/bob").mkdir()
    (source.tree / "memory/bob/secret.md").write_text("quokka\n")
    header = encode_header(Header(TreePath(), (entry("a.md", b"x"),)))
    opened = LocalSession(source)
    try:
        opened.call("join", principal="agent:alice")
        with pytest.raises(FileNotFoundError):
            opened.call("bundle_files", path="memory/bob")
        listed = opened.call("bundle_files", path="memory")
        assert not any(
            "secret" in row[0] or "bob" in row[0] for part in ("files", "directories") for row in listed[part]
        )
        for place in ("memory/bob", "knowledge/x", "history", ".ctxfs"):
            with pytest.raises(OSError):
                opened.call("bundle_begin", header=header, to=place)
        name = opened.call("bundle_begin", header=header, to="memory/alice/new")["name"]
        opened.call("bundle_add", name=name, parts=[[0, b"x"]])
        opened.call("bundle_commit", name=name)
        file = source.tree / "memory/alice/new/a.md"
        assert os.getxattr(file, "user.ctx.trust") == b"untrusted"
        name = opened.call("bundle_begin", header=header, to="memory/alice/other")["name"]
        with pytest.raises(PermissionError):
            opened.call(
                "apply", change=change_to_wire(SetMeta(TreePath.parse("memory/alice/new/a.md"), "user.ctx.trust", None))
            )
    finally:
        opened.close()


def entry(path: str, data: bytes, **other: object) -> BundleEntry:
    values = {"mode": 0o644, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **other}
    return BundleEntry(TreePath(tuple(path.split("/"))), **values)  # type: ignore[arg-type]


def write_tar(file: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(file, "w") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return file


def member(name: str, data: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, link
    return info, data


def tampered(change: Callable[[Any], object]) -> bytes:
    body = json.loads(encode_header(Header(TreePath(("memory", "a")), (entry("a.md", b"x"), entry("b.md", b"y")))))
    change(body)
    return json.dumps(body).encode()


def renamed(*names: str) -> bytes:
    return tampered(lambda body: [file.update(path=name) for file, name in zip(body["files"], names, strict=False)])


def changed(**values: object) -> bytes:
    return tampered(lambda body: body["files"][0].update(values))


HEADERS: dict[str, bytes] = {
    "traversal": renamed("../../evil.md"),
    "hidden traversal": renamed("x/../../evil.md"),
    "absolute": renamed("/etc/evil.md"),
    "empty": renamed(""),
    "dots": renamed("./a.md"),
    "doubled slash": renamed("x//a.md"),
    "NUL": renamed("a\0.md"),
    "view": renamed(".versions/x"),
    "long name": renamed("x" * 300),
    "deep": renamed("/".join("x" * 100)),
    "duplicate": renamed("b.md"),
    "case collision": renamed("B.md"),
    "case collision of a directory": renamed("D/a", "d/b"),
    "normal form": renamed("\u00e9.md", "e\u0301.md"),
    "file as directory": renamed("b.md/x"),
    "huge": changed(size=1 << 61),
    "negative": changed(size=-1),
    "no hash": changed(sha256=None),
    "setuid": changed(mode="4755"),
    "attribute": changed(attributes={"security.capability": "x"}),
    "wrong tree": tampered(lambda body: body["descriptive"].update(tree="0" * 64)),
    "list": b"[]",
    "deeply nested": b"[" * 200_000,
    "no JSON": b"\xff\xfe",
    "another version": tampered(lambda body: body.update(version=2)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_header_is_refused_whole(folder: Path, target: Layout, name: str) -> None:
    data = HEADERS[name]
    file = write_tar(
        folder / "x.tar", [member(HEADER_NAME, data), member("files/a.md", b"x"), member("files/b.md", b"y")]
    )
    before = sorted(os.walk(target.tree))
    output = run(target, "import", "bundle", str(file), code=1)
    assert "refused" in output or "needs" in output, output
    assert sorted(os.walk(target.tree)) == before
    assert not list((target.run / "bundles").glob("*")), "nothing is left in the staging folder"


HEADER = encode_header(Header(TreePath(("memory", "a")), (entry("a.md", b"x"), entry("b.md", b"y"))))
HEAD, ONE, TWO = member(HEADER_NAME, HEADER), member("files/a.md", b"x"), member("files/b.md", b"y")
TARS = {
    "no header first": [ONE, HEAD, TWO],
    "missing": [HEAD, ONE],
    "nothing but a header": [HEAD],
    "symbolic link": [HEAD, ONE, member("files/b.md", b"", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [HEAD, ONE, member("files/b.md", b"", tarfile.LNKTYPE, "files/a.md")],
    "device": [HEAD, ONE, member("files/b.md", b"", tarfile.CHRTYPE)],
    "fifo": [HEAD, ONE, member("files/b.md", b"", tarfile.FIFOTYPE)],
    "another member": [HEAD, ONE, TWO, member("files/../../c.md", b"z")],
    "twice": [HEAD, ONE, TWO, ONE],
    "wrong hash": [HEAD, ONE, member("files/b.md", b"z")],
    "longer": [HEAD, ONE, member("files/b.md", b"yy")],
    "shorter": [HEAD, ONE, member("files/b.md", b"")],
    "two headers": [HEAD, HEAD, ONE, TWO],
    "long signature": [HEAD, member(f"{HEADER_NAME}.sig", b"x" * 20_000), ONE, TWO],
}


@pytest.mark.parametrize("name", TARS)
def test_hostile_tar_is_refused_whole(folder: Path, target: Layout, name: str) -> None:
    file = write_tar(folder / "x.tar", TARS[name])
    assert "refused" in run(target, "import", "bundle", str(file), code=1)
    assert not (target.tree / "memory/a").exists()
    assert not list((target.run / "bundles").glob("*"))


def test_truncated_and_foreign_files_are_refused(folder: Path, target: Layout) -> None:
    data = write_tar(folder / "x.tar", [HEAD, ONE, TWO]).read_bytes()
    step = 512
    for length in (0, 1, *range(step, 2 * step + len(HEADER), 300), data.index(b"files/b.md") + 100):
        (folder / "cut.tar").write_bytes(data[:length])
        assert "refused" in run(target, "import", "bundle", str(folder / "cut.tar"), code=1), length
    bomb = bytearray(data)
    bomb[156:157] = b"x"  # a header of PAX as large as the file states
    (folder / "pax.tar").write_bytes(bytes(bomb[:124]) + b"77777777777\0" + bytes(bomb[136:]))
    run(target, "import", "bundle", str(folder / "pax.tar"), code=1)
    assert not (target.tree / "memory/a").exists()


def test_directory_with_links_is_refused(folder: Path, target: Layout) -> None:
    cube = folder / "cube"
    (cube / "files").mkdir(parents=True)
    (cube / HEADER_NAME).write_bytes(HEADER)
    (cube / "files/a.md").write_bytes(b"x")
    os.symlink("/etc/passwd", cube / "files/b.md")
    assert "link" in run(target, "import", "bundle", str(cube), code=1)
    (cube / "files/b.md").unlink()
    os.mkfifo(cube / "files/b.md")
    assert "device" in run(target, "import", "bundle", str(cube), code=1)
    assert not (target.tree / "memory/a").exists()


def test_existing_file_with_another_content_is_never_replaced(folder: Path, target: Layout) -> None:
    (target.tree / "memory/a").mkdir()
    (target.tree / "memory/a/b.md").write_bytes(b"z")
    file = write_tar(folder / "x.tar", [HEAD, ONE, TWO])
    assert "exists" in run(target, "import", "bundle", str(file), code=1)
    assert (target.tree / "memory/a/b.md").read_bytes() == b"z"
    assert not (target.tree / "memory/a/a.md").exists()


def test_contents_that_the_header_does_not_announce_are_refused(target: Layout) -> None:
    opened = LocalSession(target)
    try:
        for parts in ([[2, b"x"]], [[-1, b"x"]], [[0, b"xx"]], [[0, b"z"], [1, b"y"]], [[0, b"x"]]):
            name = opened.call("bundle_begin", header=HEADER)["name"]
            with pytest.raises(OSError):
                opened.call("bundle_add", name=name, parts=parts)
                opened.call("bundle_commit", name=name)
        with pytest.raises(OSError):
            opened.call("bundle_commit", name="../../x")
    finally:
        opened.close()
    assert not (target.tree / "memory/a").exists()
    assert not list((target.run / "bundles").glob("*"))


def test_header_survives_its_own_encoding() -> None:
    odd = BundleEntry(TreePath(("\udce9.md",)), 0o600, {"user.x": b"\xff"}, 1, "0" * 64)
    header = Header(TreePath(("pad",)), (odd,), (BundleEntry(TreePath(("d",)), 0o755),), {"name": "n"})
    parsed = parse_header(encode_header(header))
    assert (parsed.files, parsed.directories, parsed.root) == (header.files, header.directories, header.root)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")
def test_states_of_a_signed_bundle_obey_the_rules_of_the_store(folder: Path, source: Layout, target: Layout) -> None:
    keys = source.tree / "memory/alice/fact/keys.md"
    for state, rule in (("archived", "people"), ("archived", "nobody"), ("frozen", "people")):
        os.setxattr(keys, "user.ctx.state", state.encode())
        ada = make_key(folder, f"{state}-{rule}")
        (target.root / "allowed_signers").write_text(f"ada@example.org {ada.with_suffix('.pub').read_text()}")
        rules = f'[[state.transition]]\nfrom = "active"\nto = ["{state}"]\nwho = "{rule}"\n'
        with contextlib.closing(LocalSession(target)) as person:
            person.call("apply", change=change_to_wire(Put(TreePath.parse(".ctxfs/memory.toml"), rules.encode())))
        bundle, to = folder / f"{ada.name}.tar", f"memory/{ada.name}"
        run(source, "export", "memory/alice", str(bundle), "--sign", str(ada))
        is_allowed = rule == "people"
        message = run(target, "import", "bundle", str(bundle), "--to", to, code=0 if is_allowed else 1)
        assert is_allowed or "memory.toml" in message
        file = target.tree / to / "fact/keys.md"
        assert (
            (os.getxattr(file, "user.ctx.state") == state.encode()) if is_allowed else not (target.tree / to).exists()
        )
