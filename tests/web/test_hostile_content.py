"""Test that names, contents, front matter, titles, authors and questions are shown, and never run."""

import time
from pathlib import Path

import pytest
import trio

from ctxfs.web.renderer import Renderer
from ctxfs.web.rendering import render_code, render_markdown
from tests.live import Live
from tests.web.hostile import BODY, IMAGE, NAMES, SCRIPT, check_inert, write_hostile_files
from tests.web.site import Visitor, until_found


@pytest.fixture(scope="module")
def hostile(live: Live) -> Path:
    return write_hostile_files(live)


def test_directory_with_hostile_names_is_inert_and_its_links_work(owner: Visitor, hostile: Path) -> None:
    page = owner.get("file", path="memory/mallory")
    check_inert(page)
    links = [e.attributes["href"] for e in page.elements("a") if "mallory%2F" in e.attributes["href"]]
    assert len(links) == len(NAMES)
    for link in links:
        answer = owner.send("GET", link)
        assert answer.status == 200, link
        assert "numbat" in answer.main_text()


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_each_view_of_a_hostile_file_is_inert(owner: Visitor, hostile: Path, name: str) -> None:
    for view in ("content", "metadata", "versions", "blame", "diff", "impact"):
        for plain in ("", "1"):
            answer = owner.get("file", path=f"memory/mallory/{name}", view=view, plain=plain)
            assert answer.status == 200, (view, answer.main_text())
            check_inert(answer)


def test_hits_of_hostile_files_are_inert_and_lead_to_them(owner: Visitor, hostile: Path) -> None:
    page = until_found(owner, "numbat", "numbat</a>")
    check_inert(page)
    for link in {e.attributes["href"] for e in page.elements("a") if "mallory" in e.attributes["href"]}:
        assert owner.send("GET", link.partition("#")[0]).status == 200, link


def test_a_file_that_is_not_utf8_by_name_is_found_and_opened(owner: Visitor, live: Live) -> None:
    page = until_found(owner, "quokka", "not UTF-8: quokka")
    link = next(e.attributes["href"] for e in page.elements("a") if "latin-%E9.txt" in e.attributes["href"])
    assert "quokka" in owner.send("GET", link.partition("#")[0]).main_text()


@pytest.mark.parametrize(
    "question", [SCRIPT, IMAGE, '"><script>x</script>', "\u202e\x1b[31m", 'kind:"><b onclick=x>"', "\ufffe"]
)
def test_a_question_is_repeated_as_text(owner: Visitor, question: str) -> None:
    check_inert(owner.get("ask", q=f"keys {question}"))


@pytest.mark.parametrize("value", ["<script>x</script>", "../../etc/passwd", "\x00", "a" * 5000, "x" * 300, "\udcff"])
def test_wrong_arguments_are_errors_that_repeat_them_as_text(owner: Visitor, value: str) -> None:
    for screen, name in (
        ("file", "path"),
        ("file", "page"),
        ("file", "at"),
        ("ask", "below"),
        ("ask", "limit"),
        ("ask", "as"),
    ):
        answer = owner.get(screen, **{"q": "keys", name: value})
        assert answer.status in (200, 400, 404), (screen, name)
        check_inert(answer)
    assert owner.send("GET", f"{owner.prefix}/ask?" + "&".join(f"a{n}=1" for n in range(1000))).status == 400
    assert owner.send("GET", f"{owner.prefix}/ask?q=%ff%fe").status in (200, 400)


def test_the_text_of_markdown_is_no_html(owner: Visitor) -> None:
    html = render_markdown(BODY, ["memory", "mallory"], "/p/file?path=")
    assert "<img" not in html
    assert "<script" not in html
    assert "<iframe" not in html
    assert "<style" not in html
    for link in html.split('href="')[1:]:
        assert link.startswith(("https://evil.example", "/p/file?path=memory/mallory/other.md", "#")), link
    assert 'rel="noreferrer noopener nofollow"' in html
    assert "/p/file?path=memory/mallory/other.md" in html
    assert "etc/passwd" not in html


def test_source_code_is_escaped_line_by_line() -> None:
    text = 'x = """<script>\nalert(1)</script>\n"""\n# & <b>\n'
    lines = render_code("evil.py", text)
    assert len(lines) == len(text.split("\n"))
    assert "<script" not in "".join(lines)
    assert "&lt;script&gt;" in lines[0]
    assert not render_code("no-such-syntax.zzz", text)


def test_a_text_that_takes_too_long_is_given_up_and_the_next_one_is_rendered() -> None:
    async def render() -> tuple[object, object, float]:
        renderer, began = Renderer(), time.monotonic()
        slow = await renderer.markdown("**x* " * 50_000, [], "/p/file?path=")
        elapsed = time.monotonic() - began
        after = await renderer.markdown("*well*", [], "/p/file?path=")
        await renderer.close()
        return slow, after, elapsed

    slow, after, elapsed = trio.run(render)
    assert elapsed < 10
    assert slow is None
    assert after == "<p><em>well</em></p>\n"


def test_the_renderer_answers_none_if_its_process_dies() -> None:
    async def render() -> tuple[object, object]:
        renderer = Renderer()
        await renderer.markdown("x", [], "")
        assert renderer._process is not None
        renderer._process.kill()
        renderer._process.wait()
        lost, again = await renderer.markdown("x", [], ""), await renderer.markdown("x", [], "")
        await renderer.close()
        return lost, again

    assert trio.run(render) == (None, "<p>x</p>\n")


def test_long_files_come_in_parts_of_200_lines_and_large_ones_not_at_all(owner: Visitor, live: Live) -> None:
    folder = live.at / "pad" / "long"
    folder.mkdir(parents=True)
    (folder / "lines.py").write_text("".join(f"line_{number} = '''\n" for number in range(1, 1001)))
    page = owner.get("file", path="pad/long/lines.py")
    assert "line_200 " in page.main_text()
    assert "line_201 " not in page.main_text()
    last = owner.send("GET", owner.get("file", path="pad/long/lines.py", page=4).link("later lines →"))
    assert "line_1000 " in last.main_text()
    with open(folder / "sparse.txt", "wb") as file:
        file.truncate(2_000_000_000)
    answer = owner.get("file", path="pad/long/sparse.txt")
    assert answer.status == 200
    assert "ctxfs cat" in answer.main_text()
    for view in ("metadata", "versions", "blame", "diff", "impact"):
        answer = owner.get("file", path="pad/long/sparse.txt", view=view)
        assert answer.status in (200, 413), (view, answer.main_text())
        assert len(answer.body) < 200_000, view
    for screen in ("time/version", "time/file", "memory/edit"):
        answer = owner.get(screen, path="pad/long/sparse.txt")
        assert answer.status in (200, 400, 404, 413), (screen, answer.main_text())
        assert len(answer.body) < 200_000, screen
    (folder / "one.txt").write_text("x" * 1_900_000)
    assert len(owner.get("file", path="pad/long/one.txt").body) < 200_000
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 10)
    assert "no text" in owner.get("file", path="pad/long/binary.bin").main_text()


def test_a_directory_of_many_names_comes_in_parts(owner: Visitor, live: Live) -> None:
    folder = live.at / "pad" / "many"
    folder.mkdir(parents=True)
    for number in range(450):
        (folder / f"{number:04}.txt").write_text("x")
    seen, page = [], owner.get("file", path="pad/many")
    while True:
        names = [e.text for e in page.elements("a") if e.text.endswith(".txt")]
        assert 0 < len(names) <= 200
        seen += names
        if "later names →" not in page.text:
            break
        page = owner.send("GET", page.link("later names →"))
    assert len(set(seen)) == 450


def test_the_views_of_a_file_show_its_past(owner: Visitor, live: Live) -> None:
    file = live.at / "memory" / "shared" / "web-past.md"
    file.parent.mkdir(exist_ok=True)
    for text in ("The pump runs at 40 bar.\n", "The pump runs at 90 bar.\nAda checked it.\n"):
        file.write_text(text)
        live.run("commit")
    versions = owner.get("file", path="memory/shared/web-past.md", view="versions")
    assert versions.text.count(">content</a>") == 2
    change = owner.send("GET", versions.link("change")).main_text()
    assert "-The pump runs at 40 bar." in change
    assert "+The pump runs at 90 bar." in change
    first = [e.attributes["href"] for e in versions.elements("a") if e.text == "content"][-1]
    assert "40 bar" in owner.send("GET", first).main_text()
    blame = owner.get("file", path="memory/shared/web-past.md", view="blame").main_text()
    assert "Ada checked it." in blame
    file.unlink()
    live.run("commit")
    assert "40 bar" in owner.send("GET", first).main_text(), "a former content outlives its file"


def test_weak_hits_are_below_a_line(owner: Visitor, live: Live) -> None:
    page = until_found(owner, "how are the signing keys rotated", "ninety days")
    assert any(mark.text for mark in page.elements("mark"))
    weak = owner.get("ask", q="sourdough starter hydration")
    assert [heading.text for heading in weak.elements("h2")] == ["Weak: these may not answer"]
