from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.store.config import add_source, default_text, read_settings, remove_source
from ctxfs.store.layout import Layout, create_store
from ctxfs.store.settings import Settings, Source


def test_a_new_file_shows_every_default_and_changes_none(tmp_path: Path) -> None:
    file = tmp_path / "ctxfs.toml"
    file.write_text(default_text())
    assert read_settings(file) == Settings()
    uncommented = "\n".join(
        line[2:] if line.startswith("# ") and " = " in line.split("#")[1] else line
        for line in default_text().split("# Folders shown")[0].splitlines()
    )
    file.write_text(uncommented)
    assert read_settings(file) == Settings()


def test_adding_and_removing_a_source_keeps_comments_and_formatting(tmp_path: Path) -> None:
    file = tmp_path / "ctxfs.toml"
    file.write_text("# mine\n" + default_text())
    add_source(file, Source("a", "/tmp", exclude=("*.svg",)))
    add_source(file, Source("b", "/var", writable=True))
    assert [source.name for source in read_settings(file).sources] == ["a", "b"]
    assert remove_source(file, "a")
    assert not remove_source(file, "a")
    assert read_settings(file).sources == (Source("b", "/var", writable=True),)
    assert file.read_text().startswith("# mine\n")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[search]\nresults = 'many'", "search.results"),
        ("[search]\nbudget = 0", "search.budget"),
        ("[serch]\n", "serch"),
        ("[search]\nresult = 3", "result"),
        ("[mount]\nloop = 'fast'", "mount.loop"),
        ("[[source]]\nname = 'a'", "path"),
        ("[[source]]\nname = 'a'\npath = 'relative'", "absolute"),
        ("[[source]]\nname = '../a'\npath = '/x'", "../a"),
        ("not toml", "TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "ctxfs.toml"
    file.write_text(text)
    with pytest.raises(CommandError) as caught:
        read_settings(file)
    assert named in caught.value.message


def test_removed_loop_plain_means_direct_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "ctxfs.toml"
    file.write_text("[mount]\nloop = 'plain'\n")
    assert read_settings(file).mount.loop == "direct"
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "plain" in caplog.text


def test_a_store_is_made_once_and_never_over_other_files(tmp_path: Path) -> None:
    made = create_store(tmp_path / "s")
    made.config.write_text("[search]\nresults = 3\n")
    assert create_store(tmp_path / "s") == Layout(made.root)
    assert read_settings(made.config).search.results == 3
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(CommandError):
        create_store(other)


@pytest.mark.parametrize(
    ("value", "is_valid"), [("0.25", True), ("1", True), ("0", True), ("1.5", False), ("-0.1", False)]
)
def test_share_of_an_origin_is_between_nothing_and_all(tmp_path: Path, value: str, is_valid: bool) -> None:
    file = tmp_path / "ctxfs.toml"
    file.write_text(f"[context]\nmax_share_per_origin = {value}\n")
    if is_valid:
        assert read_settings(file).context.max_share_per_origin == float(value)
    else:
        with pytest.raises(CommandError, match="max_share_per_origin"):
            read_settings(file)
