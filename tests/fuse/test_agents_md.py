"""Test that a project's AGENTS.md names the mount point while it is mounted, on request, and keeps people's text."""

from pathlib import Path

import pytest

from ctxfs.store.agents_md import AgentsMdFiles
from tests.live import Live

pytestmark = pytest.mark.fuse


def test_block_is_added_by_mount_and_removed_by_unmount(tmp_path: Path) -> None:
    live, project = Live(tmp_path), tmp_path / "AGENTS.md"
    project.write_text("# Mine\n\nUse tabs.\n")
    live.run("init")
    try:
        live.run("mount", str(live.at), "--agents-md", str(project))
        assert project.read_text().startswith("# Mine\n\nUse tabs.\n\n<!-- ctxfs: begin -->\n")
        assert f"`{live.at}/AGENTS.md`" in project.read_text()
        project.write_text(project.read_text() + "\nWritten later.\n")
        live.run("unmount", str(live.at))
        assert project.read_text() == "# Mine\n\nUse tabs.\nWritten later.\n"
        alone = tmp_path / "alone.md"
        live.run("mount", str(live.at), "--agents-md", str(alone))
        assert alone.read_text().startswith("<!-- ctxfs: begin -->")
        live.run("unmount", "--all")
        assert not alone.exists()
    finally:
        live.close()


def test_guide_lists_the_areas_that_its_reader_may_see(tmp_path: Path) -> None:
    live = Live(tmp_path)
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
    live.run("init")
    config = live.store / "ctxfs.toml"
    rule = '\n[[rule]]\nprincipal = "agent:*"\npath = "knowledge/closed"\nverbs = "lrwxa"\neffect = "deny"\n'
    config.write_text(config.read_text() + rule)
    for name in ("open", "closed"):
        live.run("add", str(tmp_path / name), "--name", name)
    try:
        live.run("mount", str(live.at))
        live.run("mount", str(tmp_path / "mnt-agent"), "--as", "agent:alice")
        for file in ("AGENTS.md", "llms.txt"):
            assert "closed" in (live.at / file).read_text()
            told = (tmp_path / "mnt-agent" / file).read_text()
            assert "open" in told
            assert "closed" not in told
    finally:
        live.close()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_block_has_the_line_ends_of_the_file(mark: bytes, tmp_path: Path) -> None:
    file, records = tmp_path / "AGENTS.md", AgentsMdFiles(tmp_path / "run")
    (tmp_path / "run").mkdir()
    file.write_bytes(mark + b"# Mine\r\n\r\nUse tabs.\r\n")
    records.add_block(file, "/mnt")
    block = file.read_bytes()
    assert block.count(b"\n") == block.count(b"\r\n") > 5
    records.add_block(file, "/mnt")
    assert file.read_bytes() == block
    records.remove_blocks()
    assert file.read_bytes() == mark + b"# Mine\r\n\r\nUse tabs.\r\n"
