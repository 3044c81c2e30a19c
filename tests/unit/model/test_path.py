import errno

import pytest

from ctxfs.model.path import ROOT, Path, check_name, printable


def test_slashes_at_the_edges_and_doubled_do_not_matter() -> None:
    assert Path.parse("//a///b/./c/") == Path(("a", "b", "c"))
    assert Path.parse("") == ROOT


@pytest.mark.parametrize("text", ["a/../b", "..", "a\0b"])
def test_a_path_that_could_lead_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(OSError) as caught:
        Path.parse(text)
    assert caught.value.errno == errno.EINVAL


def test_a_name_may_have_255_bytes_and_not_one_more() -> None:
    assert check_name("é" * 127 + "x")
    with pytest.raises(OSError) as caught:
        check_name("é" * 128)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_names_that_are_not_utf8_survive_and_print() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert Path.parse(f"a/{name}").name == name
    assert printable(name).isprintable()


def test_a_prefix_is_compared_by_component() -> None:
    assert Path.parse("memory/a").is_below(Path.parse("memory"))
    assert not Path.parse("memory_backup/a").is_below(Path.parse("memory"))


def test_a_link_text_leads_from_its_directory_to_its_target() -> None:
    target, here = Path.parse("knowledge/x/a.md"), Path.parse("search/how do we")
    assert target.seen_from(here) == "../../knowledge/x/a.md"
    assert Path.parse("a/b").seen_from(Path.parse("a")) == "b"
