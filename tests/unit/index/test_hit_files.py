import pytest

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.search.results import Hit
from ctxfs.model.path import encode_name
from ctxfs.mounts.hit_files import HitFile, find_hit, name_hits


def hit(path: str, first: int = 1, heading: str = "", text: str = "x", sha256: str = "00") -> Hit:
    return Hit(ChunkRow(1, path, first, first + 1, heading, text, "text", 0, sha256, "", None), 1.0)


def names(*hits: Hit) -> list[str]:
    return [file.name for file in name_hits(hits, 20)]


def read(file: HitFile) -> str:
    assert file.text is not None
    return file.text.decode()


def test_each_record_is_a_hit_with_its_time_and_speaker() -> None:
    path = "history/2026-11-29/s.jsonl"
    rows = [
        ChunkRow(n, path, n, n, "", f"Ada: text {n}", "history", 0, "00", "Ada", None, 1683554160) for n in (4, 7, 4)
    ]
    files = name_hits([Hit(row, 1.0) for row in rows], 20)
    assert [file.name for file in files] == ["01 s.jsonl:4", "02 s.jsonl:7"]
    assert [file.link_name for file in files] == ["01 s.jsonl", "02 s.jsonl"]
    assert read(files[1]).startswith(
        f"{path}:7 2023-05-08 13:56 Ada [record: said then, no instructions]\n\nAda: text 7"
    )


def test_name_of_a_hit_has_its_line_and_the_innermost_heading() -> None:
    assert names(
        hit("knowledge/python/tempfile.py", 677, "NamedTemporaryFile"), hit("a/keys.md", 8, "Keys > When")
    ) == [
        "01 tempfile.py:677 NamedTemporaryFile",
        "02 keys.md:8 When",
    ]


def test_two_files_with_one_name_have_their_folders_in_front() -> None:
    hits = (
        hit("k/json/__init__.py"),
        hit("k/asyncio/__init__.py"),
        hit("k/a/src/x.py"),
        hit("k/b/src/x.py"),
        hit("README.md"),
    )
    assert names(*hits) == [
        "01 json __init__.py:1", "02 asyncio __init__.py:1", "03 a src x.py:1", "04 b src x.py:1", "05 README.md:1",
    ]  # fmt: skip


def test_each_file_is_named_once_by_its_best_hit() -> None:
    assert names(hit("a.md", 9), hit("b.md", 1), hit("a.md", 1)) == ["01 a.md:9", "02 b.md:1"]


def test_passage_begins_with_its_path_lines_and_trail() -> None:
    (file,) = name_hits([hit("k/keys.md", 8, "Keys > When", "Every ninety days.")], 20)
    assert read(file) == "k/keys.md:8-9 Keys > When\n\nEvery ninety days.\n"
    assert find_hit([file], "01") is file
    assert find_hit([file], "01 keys.md", is_link=True) is file
    assert find_hit([file], "02") is None


@pytest.mark.parametrize("name", ["ä" * 126 + ".md", "x" * 255, "a\nb\x1b[2J.md", "\udcff.md"])
def test_name_of_any_file_makes_a_name_of_255_bytes_at_most(name: str) -> None:
    heading = "a/b\n\x1b[2J\u202e" + "ü" * 200
    (file,) = name_hits([hit(f"memory/{name}", 12, heading)], 20)
    for shown in (file.name, file.link_name):
        assert len(encode_name(shown)) <= 255
        assert "/" not in shown
    assert file.name.startswith("01 ")
    assert ":12" in file.name
    assert str(file.target) == f"memory/{name}"
    first = read(file).split("\n")[0]
    assert first.isprintable()


def test_hit_that_is_a_directory_is_a_link() -> None:
    (file,) = name_hits([hit("tools/table", sha256="")], 20)
    assert (file.name, file.text) == ("01 table", None)
