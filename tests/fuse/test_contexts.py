"""Test context/ and human/ on a real mount: build, delivery in parts, response and review."""

import errno
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, eventually, make_corpus


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("contexts"))
    made.corpus = make_corpus(made.store.parent / "corpus")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook", "--writable")
    made.run("mount", str(made.at))
    made.wait_idle()
    yield made
    made.close()


@pytest.fixture
def task(live: Live, request: pytest.FixtureRequest) -> Path:
    """Return a new task for each test."""
    folder = live.at / "context" / f"t{abs(hash(request.node.name)) % 10**9}"
    folder.mkdir()
    (folder / "request.toml").write_text(
        'query = "how are signing keys rotated"\nbudget = 400\npaths = ["knowledge/handbook"]\n'
    )
    return folder


def loads(task: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (task / "loads.jsonl").read_text().splitlines()]


def test_a_changed_request_is_right_at_the_next_cat(task: Path) -> None:
    assert "ninety days" in (task / "context.md").read_text()
    (task / "request.toml").write_text('query = "rollback"\nbudget = 90\npaths = ["knowledge/handbook"]\n')
    text = (task / "context.md").read_text()
    assert "previous tag" in text
    assert "ninety days" not in text
    (task / "request.toml").write_text(
        'query = "rollback"\nbudget = 200\nformat = "json"\npaths = ["knowledge/handbook"]\n'
    )
    assert json.loads((task / "context.json").read_text())["sources"]
    assert "context.md" not in os.listdir(task)


def test_last_good_context_stays_while_a_request_is_half_written(task: Path) -> None:
    before = (task / "context.md").read_text()
    with open(task / "request.toml", "w") as half:
        half.write('query = "rollback"\nbudget = ')
        half.flush()
        assert (task / "context.md").read_text() == before
        assert "not valid TOML" in (task / "error.txt").read_text()
        half.write("90\n")
    assert "previous tag" in (task / "context.md").read_text()
    assert "error.txt" not in os.listdir(task)


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ("knowledge/handbook/nowhere.md", "does not exist"),
        ("knowledge/handbook/deploy.md:900", "lines"),
        ("knowledge/handbook", "cannot be read"),
    ],
)
def test_missing_pin_is_named(task: Path, pin: str, said: str) -> None:
    (task / "request.toml").write_text(f'query = "x"\npins = ["{pin}"]\n')
    assert said in (task / "error.txt").read_text()


def test_pin_larger_than_the_budget_is_reported_with_the_excess(task: Path) -> None:
    (task / "request.toml").write_text('query = "x"\nbudget = 20\npins = ["knowledge/handbook/deploy.md"]\n')
    assert "more than the budget" in (task / "error.txt").read_text()


def test_context_never_contains_itself(live: Live, task: Path) -> None:
    other = task.parent / f"{task.name}-other"
    other.mkdir()
    own, its = f"context/{task.name}", f"context/{other.name}"
    (task / "request.toml").write_text(f'query = "x"\npins = ["{own}/context.md"]\n')
    assert "would contain itself" in (task / "error.txt").read_text()
    (task / "request.toml").write_text(f'query = "x"\npins = ["{its}/context.md"]\n')
    (other / "request.toml").write_text(f'query = "x"\npins = ["{own}/context.md"]\n')
    assert (task / "error.txt").read_text()
    assert (other / "error.txt").read_text()
    (other / "request.toml").write_text('query = "rotate keys"\nbudget = 200\npaths = ["knowledge/handbook"]\n')
    (task / "request.toml").write_text(f'query = "x"\npins = ["{its}/context.md"]\n')
    assert "ninety days" in (task / "context.md").read_text(), "another context may be pinned"
    (task / "request.toml").write_text(f'query = "x"\npins = ["{its}/stream"]\n')
    assert "cannot be pinned" in (task / "error.txt").read_text()
    assert live.errors() == []


def test_stream_returns_the_next_piece_at_each_read_and_none_on_stat(task: Path) -> None:
    (task / "request.toml").write_text('query = "keys"\nbudget = 600\npiece = 90\npaths = ["knowledge/handbook"]\n')
    os.stat(task / "stream")
    assert "stream" not in os.listdir(task)
    first = (task / "stream").read_text()
    second = (task / "stream").read_text()
    assert first != second
    assert (task / "stream@0").read_text() == first
    assert (task / "stream@1").read_text() == second
    rest = iter(lambda: (task / "stream").read_text(), "")
    everything = first + second + "".join(rest)
    assert "ninety days" in everything
    assert (task / "stream").read_text() == ""
    assert [line["mode"] for line in loads(task)].count("stream") >= 2
    assert all(line["at"] and line["principal"] and line["reason"] for line in loads(task) if line["mode"] == "stream")


def test_windows_of_two_readers_are_apart(live: Live, task: Path) -> None:
    other = live.at.parent / "mnt-agent"
    live.run("mount", str(other), "--as", "agent:alice")
    rule = f'[[rule]]\nprincipal = "agent:alice"\npath = "context/{task.name}/**"\nverbs = "r"\n'
    (live.store / "policy.toml").write_text(rule)  # a task belongs to its owner
    eventually("the rule holds", (other / "context" / task.name).exists)
    mine, hers = task / "stream", other / "context" / task.name / "stream"
    assert mine.read_text() == hers.read_text()
    names = set(os.listdir(task))
    assert "window-agent-alice.json" in names
    assert len([name for name in names if name.startswith("window-human-")]) == 1


def test_delta_lists_replaced_pieces_after_a_source_changes(live: Live, task: Path) -> None:
    source = live.at / "knowledge" / "handbook" / "lunch.md"
    source.write_text("# Lunch\n\nSigning keys are not served at lunch, which is at noon.\n")
    (task / "request.toml").write_text('query = "lunch at noon"\nbudget = 200\npaths = ["knowledge/handbook"]\n')
    eventually("the new file is found", lambda: "at noon" in (task / "context.md").read_text())
    live.wait_idle()  # embedding in the meantime may change the order
    assert "at noon" in (task / "delta.md").read_text()
    assert "Nothing has changed" in (task / "delta.md").read_text()
    source.write_text("# Lunch\n\nSigning keys are not served at lunch, which is at one.\n")
    eventually("the change is found", lambda: "at one" in (task / "context.md").read_text())
    live.wait_idle()
    delta = (task / "delta.md").read_text()
    assert "## Replace" in delta
    assert "at one" in delta
    replaced = [line for line in loads(task) if line.get("change") == "replace"]
    assert replaced
    assert "changed" in str(replaced[-1]["reason"])
    source.unlink()


RESPONSE = (
    "Rotate the signing keys every ninety days with `keyctl` [1]. Rotate the signing keys every thirty days. "
    "The harvest of turnips was plentiful in the valley.\n"
)


def test_response_is_evaluated_and_stored_and_doubts_wait_for_a_person(live: Live, task: Path) -> None:
    (task / "request.toml").write_text(
        'query = "rotate signing keys"\nbudget = 300\nkeep = true\npaths = ["knowledge/handbook"]\n'
    )
    (task / "response.md").write_text(RESPONSE)
    body = json.loads((task / "evaluation.json").read_text())
    assert [claim["verdict"] for claim in body["claims"]] == ["supported", "contradicted", "unsupported"]
    assert body["claims"][0]["source"]["at"].startswith("knowledge/handbook/rotation.md:")
    assert body["groundedness"] == pytest.approx(1 / 3, abs=0.001)

    facts = live.at / "memory" / "shared" / "fact"
    kept = eventually("the fact is kept", lambda: [path for path in facts.glob("rotate-*.md") if path.is_file()])[0]
    assert "ninety days" in kept.read_text()
    eventually("its attributes follow, one by one", lambda: "user.sourceId" in os.listxattr(kept))
    attributes = {name: os.getxattr(kept, name).decode() for name in os.listxattr(kept)}
    assert attributes["user.ctx.source"].startswith("knowledge/handbook/rotation.md:")
    assert attributes["user.sourceId"] == attributes["user.ctx.source"]
    assert attributes["user.createdAt"]
    assert float(attributes["user.ctx.confidence"]) > 0.7

    reviews = live.at / "human" / "review"
    (doubt,) = eventually(
        "the doubt waits",
        lambda: [path for path in reviews.glob("*") if task.name in (path / "evidence.md").read_text()],
    )
    assert "thirty days" in (doubt / "claim.md").read_text()
    with pytest.raises(OSError, match=r".") as refused:
        (doubt / "verdict").write_text("perhaps\n")
    assert refused.value.errno == errno.EINVAL
    (doubt / "verdict").write_text("edit The signing keys are rotated four times a year.\n")
    outcome = json.loads((doubt / "outcome.json").read_text())
    assert (outcome["decision"], outcome["override"]) == ("edit", True)
    assert "four times a year" in (live.at / outcome["kept"]).read_text()
    with pytest.raises(PermissionError):
        (doubt / "verdict").write_text("reject\n")
    review = json.loads((live.at / ".ctxfs" / "status").read_text())["review"]
    assert review["decided"] >= 1
    assert 0 < review["override_rate"] <= 1


def test_agents_do_not_decide(live: Live, task: Path) -> None:
    (task / "response.md").write_text("Rotate the signing keys every sixty days with `keyctl`.\n")
    evaluation = json.loads(live.run("context", "evaluate", task.name, "--json"))
    (name,) = evaluation["reviews"]
    other = live.at.parent / "mnt-agent2"
    live.run("mount", str(other), "--as", "agent:bob")
    with pytest.raises(FileNotFoundError):  # agents have no decisions to take
        (other / "human" / "review" / name / "verdict").write_text("accept\n")
    assert json.loads(live.run("review", "--json"))
    live.run("review", name, "reject")
    assert not [
        question
        for question in json.loads(live.run("review", "--all", "--json"))
        if question["id"] == name and not question["decision"]
    ]


@pytest.mark.parametrize(("data", "said"), [(b"\x00\x01binary", "binary"), ("caf\xe9".encode("latin-1"), "not UTF-8")])
def test_a_response_that_is_no_text_is_named_and_the_context_stays(task: Path, data: bytes, said: str) -> None:
    (task / "response.md").write_bytes(data)
    assert said in (task / "error.txt").read_text()
    assert "evaluation.json" not in os.listdir(task)
    assert not (task / "evaluation.json").exists()
    assert "ninety days" in (task / "context.md").read_text()


def test_a_long_response_is_judged_in_bounded_time(task: Path) -> None:
    (task / "response.md").write_text("Rotate the signing keys every ninety days. " * 118_000)
    body = json.loads((task / "evaluation.json").read_text())
    assert len(body["claims"]) == 2000
    assert any("first 2000" in note for note in body["notes"])


def test_source_that_changed_after_the_response_is_marked_stale(live: Live, task: Path) -> None:
    source = live.at / "knowledge" / "handbook" / "rollback-times.md"
    source.write_text("# Rollback times\n\nA rollback takes nine minutes.\n")
    (task / "request.toml").write_text(
        'query = "how long is a rollback"\nbudget = 300\npaths = ["knowledge/handbook"]\n'
    )
    eventually("the file is found", lambda: "nine minutes" in (task / "context.md").read_text())
    (task / "response.md").write_text("A rollback takes nine minutes.\n")
    assert json.loads((task / "evaluation.json").read_text())["stale"] == []
    source.write_text("# Rollback times\n\nA rollback takes twelve minutes.\n")
    eventually(
        "the change is noticed",
        lambda: json.loads((task / "evaluation.json").read_text())["stale"] == ["knowledge/handbook/rollback-times.md"],
    )
    source.unlink()


def test_generated_files_cannot_be_written(task: Path) -> None:
    (task / "stream").read_text()
    for name in ("context.md", "loads.jsonl", "window-human-root.json", "evaluation.json", "stream", "delta.md"):
        with pytest.raises(OSError, match=r"."):
            (task / name).write_text("x")


def test_as_of_shows_memory_as_it_was(live: Live, task: Path) -> None:
    fact = live.at / "memory" / "shared" / "gate.md"
    fact.write_text("The garden gate code is 1111.\n")
    live.run("commit")
    live.run("snapshot", "before")
    fact.write_text("The garden gate code is 2222.\n")
    live.run("commit")
    assert "2222" in live.run("context", "garden gate code", "--budget", "300")
    then = live.run("context", "garden gate code", "--budget", "300", "--as-of", "before")
    assert "1111" in then
    assert "2222" not in then
    (task / "request.toml").write_text(
        'query = "garden gate code"\nbudget = 300\nas_of = "before"\npins = ["memory/shared/gate.md"]\n'
    )
    assert "1111" in (task / "context.md").read_text()
    (task / "request.toml").write_text('query = "x"\nas_of = "1999-01-01"\n')
    assert (task / "error.txt").read_text()


def test_expired_or_superseded_file_is_excluded_and_named(live: Live, task: Path) -> None:
    memory = live.at / "memory" / "shared"
    for name, text in (
        ("old", "The wifi password is apple."),
        ("new", "The wifi password is pear."),
        ("gone", "The wifi password was plum."),
    ):
        (memory / f"wifi-{name}.md").write_text(text + "\n")
    os.setxattr(memory / "wifi-new.md", "user.ctx.supersedes", b"memory/shared/wifi-old.md")
    os.setxattr(memory / "wifi-gone.md", "user.ctx.expires_at", b"2020-01-01")
    (task / "request.toml").write_text('query = "wifi password"\nbudget = 400\npaths = ["memory/shared"]\n')

    def reasons() -> dict[str, str]:
        return {
            out["path"].rpartition("/")[2]: out["reason"]
            for out in json.loads((task / "manifest.json").read_text())["excluded"]
        }

    expected = {"wifi-old.md": "superseded", "wifi-gone.md": "expired"}
    eventually("attributes are seen", lambda: reasons().items() >= expected.items())  # others have a low score
    text = (task / "context.md").read_text()
    assert "pear" in text
    assert "apple" not in text
    assert "plum" not in text


def test_derived_files_refuse_writes_and_are_removed_with_their_task(live: Live) -> None:
    task = live.at / "context" / "derived-modes"
    task.mkdir()
    (task / "request.toml").write_text('query = "rotate keys"\n')
    for name in ("context.md", "manifest.json"):
        # rm asks on a terminal for each file that its owner may not write.
        assert stat.S_IMODE((task / name).stat().st_mode) == 0o644
        before = (task / name).read_bytes()
        with pytest.raises(PermissionError):
            (task / name).write_text("x")
        assert (task / name).read_bytes() == before
    subprocess.run(["rm", "-r", task], check=True, stdin=subprocess.DEVNULL)
    assert not task.exists()
