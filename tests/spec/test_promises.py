"""Test the guarantees to users, through each access path to the tree."""

import contextlib
import json

import pytest

from tests.live import Live, eventually
from tests.spec.conftest import FuseShell, Shell, VfsShell


def test_the_root_shows_the_areas_and_hides_the_control_files(shell: Shell) -> None:
    assert shell.names("") == {
        "AGENTS.md", "context", "history", "human", "knowledge", "llms.txt", "memory", "pad", "search", "tools",
    }  # fmt: skip
    assert "status" in shell.names(".ctxfs")


def test_knowledge_reads_as_the_folder_does(shell: Shell, live: Live) -> None:
    assert shell.read("knowledge/handbook/rotation.md") == (live.corpus / "rotation.md").read_text()
    assert {"rotation.md", "src", "image.png", "ignored.md"} <= shell.names("knowledge/handbook")


def test_written_file_is_visible_through_every_shell_at_once(shell: Shell, live: Live, place: str) -> None:
    shell.write(f"memory/shared/{place}.md", "first")
    shell.write(f"memory/shared/{place}.md", "second, longer")
    for kind in (VfsShell, FuseShell):
        with contextlib.closing(kind(live)) as reader:
            assert reader.read(f"memory/shared/{place}.md") == "second, longer"
    assert (live.store / "tree" / "memory" / "shared" / f"{place}.md").read_text() == "second, longer"


def test_a_read_only_source_refuses_and_stays(shell: Shell, live: Live) -> None:
    before = sorted(live.corpus.rglob("*"))
    for attempt in (
        lambda: shell.write("knowledge/handbook/new.md", "x"),
        lambda: shell.write("knowledge/handbook/rotation.md", "x"),
        lambda: shell.remove("knowledge/handbook/rotation.md"),
        lambda: shell.mkdir("knowledge/handbook/dir"),
    ):
        with pytest.raises(OSError):
            attempt()
    assert sorted(live.corpus.rglob("*")) == before


def test_a_writable_source_takes_changes(shell: Shell, live: Live, place: str) -> None:
    shell.write(f"knowledge/drafts/{place}.md", "draft")
    assert (live.corpus.parent / "drafts" / f"{place}.md").read_text() == "draft"


def test_path_can_be_a_query(shell: Shell, live: Live) -> None:
    live.wait_idle()  # while vectors are behind, the status reports it
    names = shell.names("search/rotating the signing keys")
    assert {"results.jsonl", "context.md"} <= names
    assert any(name.startswith("01 ") and "rotation.md:" in name for name in names)
    lines = [json.loads(line) for line in shell.read("search/rotating the signing keys/results.jsonl").splitlines()[:2]]
    assert lines[0]["status"] == "ok"
    assert lines[1]["path"].endswith("rotation.md")
    assert {"words", "meaning"} <= set(lines[1]["signals"])
    assert sum(lines[1]["shares"].values()) == pytest.approx(lines[1]["score"], abs=0.01)
    assert "ninety days" in shell.read("search/rotating the signing keys/context.md")


def test_query_can_be_limited_to_a_directory(shell: Shell) -> None:
    records = shell.read("knowledge/handbook/src/.search/retry a request/results.jsonl").splitlines()[1:]
    assert records
    assert all(json.loads(record)["path"].startswith("knowledge/handbook/src/") for record in records)


def test_empty_result_is_reported_and_is_not_an_error(shell: Shell, live: Live) -> None:
    live.wait_idle()
    head = json.loads(shell.read("search/+xylophonequartet/results.jsonl").splitlines()[0])
    assert (head["status"], head["hits"]) == ("ok", 0)
    assert "unknown:" in shell.read("search/+xylophonequartet/context.md")


def test_names_that_programs_probe_for_are_not_queries(shell: Shell) -> None:
    for name in (".git", "AGENTS.md", "CLAUDE.md", " ", "node_modules"):
        with pytest.raises(OSError):
            shell.names(f"search/{name}")


def test_saved_query_is_listed(shell: Shell, place: str) -> None:
    question = f"keep {place}"
    assert question not in shell.names("search")
    shell.names(f"search/{question}")
    assert question not in shell.names("search"), "looking must not change anything"
    shell.mkdir(f"search/{question}")
    assert question in shell.names("search")
    shell.remove(f"search/{question}")
    assert question not in shell.names("search")


def test_context_fits_its_budget_and_lists_its_pieces(shell: Shell, place: str) -> None:
    shell.mkdir(f"context/{place}")
    shell.write(f"context/{place}/request.toml", 'query = "rotate keys"\nbudget = 120\n')
    manifest = json.loads(shell.read(f"context/{place}/manifest.json"))
    assert 0 < manifest["context"]["tokens"] <= 120
    assert manifest["items"][0]["path"].endswith("rotation.md")
    assert manifest["excluded"]
    assert all(out["reason"] in ("budget", "duplicate", "recalled", "low-score") for out in manifest["excluded"])
    assert "ninety days" in shell.read(f"context/{place}/context.md")


def test_the_same_request_gives_the_same_bytes(shell: Shell, place: str) -> None:
    for task in ("one", "two"):
        shell.mkdir(f"context/{place}-{task}")
        shell.write(
            f"context/{place}-{task}/request.toml",
            'query = "rotate keys"\nbudget = 300\npaths = ["knowledge/handbook"]\n',
        )
    assert shell.read(f"context/{place}-one/context.md") == shell.read(f"context/{place}-two/context.md")
    one, two = (json.loads(shell.read(f"context/{place}-{name}/manifest.json")) for name in ("one", "two"))
    # The creation of the second task was a version itself.
    assert {**one, "revision": ""} == {**two, "revision": ""}


def test_context_is_delivered_in_parts_to_each_reader(shell: Shell, place: str) -> None:
    shell.mkdir(f"context/{place}")
    shell.write(
        f"context/{place}/request.toml",
        'query = "rotate keys"\nbudget = 300\npiece = 80\npaths = ["knowledge/handbook"]\n',
    )
    first = shell.read(f"context/{place}/stream")
    assert first != shell.read(f"context/{place}/stream")
    assert shell.read(f"context/{place}/stream@0") == first
    assert "to add" in shell.read(f"context/{place}/delta.md")
    assert "Nothing has changed" in shell.read(f"context/{place}/delta.md")
    assert {"stream", "delta.md"}.isdisjoint(shell.names(f"context/{place}"))


def test_response_is_checked_against_its_sources(shell: Shell, place: str) -> None:
    shell.mkdir(f"context/{place}")
    shell.write(
        f"context/{place}/request.toml", 'query = "rotate signing keys"\nbudget = 300\npaths = ["knowledge/handbook"]\n'
    )
    shell.write(
        f"context/{place}/response.md",
        "Rotate the signing keys every ninety days [1]. Rotate the signing keys every two days.\n",
    )
    claims = json.loads(shell.read(f"context/{place}/evaluation.json"))["claims"]
    assert [claim["verdict"] for claim in claims] == ["supported", "contradicted"]
    assert claims[0]["source"]["at"] == "knowledge/handbook/rotation.md:7"
    assert claims[0]["citations"][0]["resolves"]


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        ('query = "x"\nbudget = 0\n', "budget"),
        ('query = "x"\nbudget = -5\n', "budget"),
        ("query = \n", "TOML"),
        ('query = "x"\ntokenizer = "gpt-17"\n', "tokenizer"),
        ('query = "x"\npins = ["memory/gone.md"]\n', "memory/gone.md"),
        ('query = "x"\nbudget = 10\npins = ["knowledge/handbook/rotation.md"]\n', "more than the budget"),
        ('qeury = "x"\n', "qeury"),
    ],
)
def test_a_bad_request_is_explained_and_the_last_good_context_stays(
    shell: Shell, place: str, request_text: str, said: str
) -> None:
    shell.mkdir(f"context/{place}")
    shell.write(f"context/{place}/request.toml", 'query = "rotate keys"\nbudget = 200\n')
    good = shell.read(f"context/{place}/context.md")
    shell.write(f"context/{place}/request.toml", request_text)
    assert said in shell.read(f"context/{place}/error.txt")
    assert shell.read(f"context/{place}/context.md") == good
    shell.write(f"context/{place}/request.toml", 'query = "rotate keys"\nbudget = 200\n')
    assert "error.txt" not in shell.names(f"context/{place}")


def test_a_pin_comes_first_and_may_be_lines_of_a_file(shell: Shell, place: str) -> None:
    shell.mkdir(f"context/{place}")
    shell.write(
        f"context/{place}/request.toml", 'query = "rotate"\nbudget = 400\npins = ["knowledge/handbook/deploy.md:1-3"]\n'
    )
    items = json.loads(shell.read(f"context/{place}/manifest.json"))["items"]
    assert (items[0]["path"], items[0]["last"], items[0]["why"]) == ("knowledge/handbook/deploy.md", 3, "pin")


def test_search_finds_written_files_and_no_deleted_ones(shell: Shell, place: str) -> None:
    word = "w" + place.replace("-", "")[-40:]
    path = f"memory/shared/{place}.md"

    def found() -> bool:
        return path in shell.read(f"search/mode:words {word}/results.jsonl")

    shell.write(path, f"a note about {word}")
    eventually("the new file is found", found)
    shell.remove(path)
    eventually("the deleted file is no longer found", lambda: not found())


def test_every_write_becomes_a_version_through_every_shell(shell: Shell, live: Live, place: str) -> None:
    path = f"memory/shared/{place}.md"
    for text in ("one", "two"):
        shell.write(path, text)
        live.run("commit")
    past = f"memory/shared/.versions/{place}.md"
    assert {"latest", "prev", "log"} <= shell.names(past)
    newest, older = sorted((name for name in shell.names(past) if name[0] == "0"), reverse=True)
    assert (shell.read(f"{past}/{newest}"), shell.read(f"{past}/{older}")) == ("two", "one")
    assert shell.read(f".snapshots/latest/{path}") == "two"
    live.run("undo", path)
    assert shell.read(path) == "one"
    live.run("redo", path)
    assert shell.read(path) == "two"
    shell.remove(path)
    live.run("commit")
    assert path.split("/")[-1] not in shell.names(".snapshots/latest/memory/shared")
    assert shell.read(f"{past}/{newest}") == "two"


def test_versions_refuse_changes(shell: Shell, live: Live, place: str) -> None:
    path = f"memory/shared/{place}.md"
    shell.write(path, "one")
    live.run("commit")
    (name,) = (name for name in shell.names(f"memory/shared/.versions/{place}.md") if name[0] == "0")
    for attempt in (
        lambda: shell.write(f"memory/shared/.versions/{place}.md/{name}", "forged"),
        lambda: shell.remove(f"memory/shared/.versions/{place}.md/{name}"),
        lambda: shell.write(f".snapshots/latest/{path}", "forged"),
        lambda: shell.mkdir(".snapshots/latest/memory/new"),
    ):
        with pytest.raises(OSError):
            attempt()
    assert shell.read(f"memory/shared/.versions/{place}.md/{name}") == "one"


def test_traversal_is_refused(shell: Shell) -> None:
    for path in ("memory/../../etc/passwd", "../etc/passwd"):
        with pytest.raises(OSError):
            VfsShell.read(shell, path) if isinstance(shell, VfsShell) else shell.read(
                "memory/shared/no/../../../../" + path
            )


def test_the_guide_is_short_and_names_the_sources(shell: Shell) -> None:
    from ctxfs.context.build.token_bound import upper_bound

    guide = shell.read("AGENTS.md")
    assert "`handbook`" in guide
    assert (
        upper_bound(guide) <= 690
    )  # a fifth too much here: the tokenizers published for GPT and Claude 2 count under 600
