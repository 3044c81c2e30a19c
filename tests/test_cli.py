"""The command line as scripts see it: exit codes, streams, JSON, and the same answers with and without a daemon."""

import json
import os
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from tests.live import Live, eventually


def test_exit_codes_tell_scripts_what_happened(offline: Live, tmp_path: Path) -> None:
    for arguments, code in (
        (("search", "rotate keys"), 0),
        (("search", "+xylophonequartet"), 3),
        (("context", "+xylophonequartet"), 3),
        (("search", "  "), 2),
        (("search",), 2),
        (("context", "x", "--budget", "0"), 2),
        (("explode",), 2),
        (("cat", "knowledge/none"), 1),
        (("ls", "knowledge/none"), 1),
        (("cat", "../etc/passwd"), 1),
        (("context", "x", "--tokenizer", "gpt-17"), 1),
        (("unmount", str(tmp_path)), 1),
    ):
        done = offline.try_run(*arguments)
        assert done.returncode == code, (arguments, done)
        assert "Traceback" not in done.stderr
        if code:
            assert done.stderr.strip()
    missing = Live(tmp_path / "elsewhere").try_run("status")
    assert missing.returncode == 4
    assert "ctxfs --store" in missing.stderr


def test_without_a_daemon_everything_but_the_mount_works(offline: Live) -> None:
    assert "handbook/" in offline.run("ls", "knowledge")
    assert "Rotating keys" in offline.run("cat", "knowledge/handbook/rotation.md")
    assert "rotation.md" in offline.run("tree", "knowledge")
    hits = json.loads(offline.run("search", "rotate signing keys", "--json"))["hits"]
    assert hits[0]["path"] == "knowledge/handbook/rotation.md"
    (offline.corpus / "new.md").write_text("an okapi")
    assert "new.md" in offline.run("search", "okapi"), "what changed since must be found"
    assert "ninety days" in offline.run("context", "rotate signing keys", "--budget", "300")
    assert "01 rotation.md" in offline.run("ls", "search/rotate signing keys")


def test_with_and_without_a_daemon_the_same_question_has_the_same_answer(offline: Live) -> None:
    offline.run("reindex")
    before = offline.run("search", "how are keys rotated", "--json")
    context = offline.run("context", "how are keys rotated", "--budget", "400")
    offline.run("mount", str(offline.at))
    try:
        offline.wait_idle()
        assert offline.run("search", "how are keys rotated", "--json") == before
        assert offline.run("context", "how are keys rotated", "--budget", "400") == context
    finally:
        offline.close()


@pytest.mark.parametrize("served", [False, True], ids=["no daemon", "daemon"])
def test_a_full_reindex_reads_what_a_stat_does_not_show(offline: Live, served: bool) -> None:
    # The index is wrong and every file is as it was: only a read shows it.
    offline.run("reindex")
    catalog = sqlite3.connect(offline.store / "index" / "catalog.db")
    with catalog:
        catalog.execute("UPDATE chunks SET text = replace(text, 'ninety days', 'a fortnight')")
        assert catalog.execute("SELECT 1 FROM chunks WHERE text LIKE '%a fortnight%'").fetchone()
    catalog.close()
    if served:
        offline.run("mount", str(offline.at))
    try:
        offline.run("reindex")
        assert "a fortnight" in offline.run("context", "rotate signing keys", "--budget", "300")
        offline.run("reindex", "--full")
        assert "ninety days" in offline.run("context", "rotate signing keys", "--budget", "300")
    finally:
        offline.close()


def test_an_index_that_is_deleted_comes_back(offline: Live) -> None:
    first = offline.run("reindex")
    answer = offline.run("search", "rotate keys", "--json")
    subprocess.run(["rm", "-rf", str(offline.store / "index")], check=True)
    assert offline.run("reindex") == first
    assert json.loads(offline.run("search", "rotate keys", "--json"))["hits"] == json.loads(answer)["hits"]


def test_contexts_compose_in_a_pipe(live: Live, tmp_path: Path) -> None:
    (tmp_path / "task.md").write_text("how do we rotate the signing keys?\n")
    ctxfs = " ".join(live.command())
    line = f'{{ cat task.md; {ctxfs} context "$(cat task.md)" --budget 4000; }} | cat'
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("how do we rotate")
    assert "ninety days" in done.stdout
    assert done.stderr == ""
    assert "ninety days" in live.try_run("context", "-", "--budget", "300", input="rotate the signing keys").stdout


def test_output_for_scripts_has_no_colours_and_json_is_json(live: Live) -> None:
    for arguments in (("status",), ("search", "keys"), ("ls", "-l", "knowledge"), ("tree",), ("doctor",)):
        assert "\x1b" not in live.try_run(*arguments).stdout
    for arguments in (
        ("status", "--json"),
        ("search", "keys", "--json"),
        ("ls", "--json", "knowledge/handbook"),
        ("tree", "--json"),
        ("doctor", "--json"),
        ("context", "keys", "--json"),
        ("context", "keys", "--manifest"),
    ):
        assert json.loads(live.try_run(*arguments).stdout)


def test_a_reader_that_leaves_early_is_not_an_error(live: Live) -> None:
    ctxfs = " ".join(live.command())
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{ctxfs} tree -L 9 | head -1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_made(live: Live, shell: str) -> None:
    assert "_CTXFS_COMPLETE" in live.run("completion", shell)


def test_what_is_missing_is_named_with_its_remedy(offline: Live, tmp_path: Path) -> None:
    import sys

    empty = tmp_path / "bin"
    empty.mkdir()
    command = offline.command("mount", str(offline.at))
    done = subprocess.run(
        [sys.executable, *command[1:]], env={**os.environ, "PATH": str(empty)}, capture_output=True, text=True
    )
    assert (done.returncode, "apt-get install fuse3" in done.stderr) == (1, True)
    nowhere = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    done = subprocess.run(offline.command("search", "rotate keys"), env=nowhere, capture_output=True, text=True)
    assert done.returncode == 0
    assert "ctxfs model install" in done.stderr
    done = subprocess.run(offline.command("doctor"), env=nowhere, capture_output=True, text=True)
    assert (done.returncode, "ctxfs model install" in done.stdout) == (6, True)


def test_a_machine_without_dev_fuse_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxfs.fuse import mounting

    monkeypatch.setattr(mounting.os.path, "exists", lambda path: path != "/dev/fuse")
    with pytest.raises(CommandError) as caught:
        mounting.check_fuse()
    assert "/dev/fuse" in caught.value.message
    monkeypatch.undo()
    monkeypatch.setattr(mounting.os, "access", lambda path, mode: path != "/dev/fuse")
    with pytest.raises(CommandError) as caught:
        mounting.check_fuse()
    assert "chmod" in caught.value.remedy


def test_search_says_why_and_puts_together_what_belongs_together(offline: Live) -> None:
    hit = json.loads(offline.run("search", "rotate signing keys", "--json"))["hits"][0]
    explained = offline.run("search", "rotate signing keys", "-n", "1", "--explain")
    assert all(f"  {name} " in explained for name in hit["shares"])
    grouped = json.loads(offline.run("search", "runbook keys retry", "--group-by", "dir", "--json"))
    ranks = sorted(rank for inside in grouped["groups"].values() for rank in inside)
    assert ranks == list(range(1, len(grouped["hits"]) + 1))
    assert grouped["groups"]["knowledge/handbook/src"]
    assert "Bob  " in offline.run("search", "author:bob wiki", "--group-by", "author")


def test_a_quoted_title_that_nothing_contains_is_looked_for_by_its_words_and_the_answer_says_so(offline: Live) -> None:
    done = offline.try_run("search", 'where is "signing keys rotation" described', "--json")
    assert json.loads(done.stdout)["hits"][0]["path"].endswith("rotation.md")
    assert "as it stands" in json.loads(done.stdout)["remarks"][0]
    assert "as it stands" in offline.try_run("search", 'where is "signing keys rotation" described').stderr
    assert offline.try_run("search", '"signing keys rotation"').returncode == 3, "alone it is meant as it is written"


def test_grep_finds_lines_where_they_are(offline: Live) -> None:
    assert offline.run("grep", "rotat(e|ing)", "-i").splitlines() == [
        "knowledge/handbook/rotation.md:5:## Rotating keys",
        "knowledge/handbook/rotation.md:7:Rotate the signing keys every ninety days with `keyctl`.",
    ]
    assert offline.run("grep", "-l", "request", "knowledge/handbook/src") == "knowledge/handbook/src/retry.py\n"
    assert offline.run("grep", "-c", "-F", "Ada:", "knowledge") == "knowledge/handbook/chat.txt:2\n"
    (found,) = json.loads(offline.run("grep", "quokka", "--json"))
    assert found["line"] == 1
    cut = offline.try_run("grep", "-m", "1", "e")
    assert (len(cut.stdout.splitlines()), "more than the first 1" in cut.stderr) == (1, True)
    assert offline.try_run("grep", "zanzibar").returncode == 3
    assert "not a regular expression" in offline.try_run("grep", "(").stderr
    assert offline.try_run("grep", "x", "knowledge/none").returncode == 1


def test_files_are_joined_under_their_paths(offline: Live) -> None:
    (offline.corpus / "open end.txt").write_text("no newline")
    joined = offline.run("cat", "--join", "knowledge/handbook/open end.txt", "knowledge/handbook/log.jsonl")
    assert joined.startswith(
        "==> knowledge/handbook/open end.txt <==\nno newline\n==> knowledge/handbook/log.jsonl <==\n{"
    )


def test_eval_measures_and_fails_when_it_got_worse(offline: Live, tmp_path: Path) -> None:
    gold, baseline = tmp_path / "gold.jsonl", tmp_path / "base.json"
    asked = [
        {"question": "rotate signing keys", "relevant": ["knowledge/handbook/rotation.md:5-7"], "category": "found"},
        {"question": "zanzibar", "relevant": ["knowledge/handbook/ignored.md"], "category": "lost"},
    ]
    gold.write_text("\n".join(map(json.dumps, asked)))
    figures = json.loads(offline.run("eval", str(gold), "--budget", "300", "--json"))
    assert (figures["recall@1"], figures["whole@300"]) == (0.5, 0.5)
    assert figures["categories"]["found"]["whole@300"] == 1.0
    offline.run("eval", str(gold), "--budget", "300", "--baseline", str(baseline), "--save")
    assert offline.try_run("eval", str(gold), "--budget", "300", "--baseline", str(baseline)).returncode == 0
    baseline.write_text(json.dumps({**json.loads(baseline.read_text()), "recall@1": 0.9}))
    worse = offline.try_run("eval", str(gold), "--budget", "300", "--baseline", str(baseline))
    assert (worse.returncode, "recall@1: 0.9000 before" in worse.stderr) == (6, True)
    gold.write_text('{"question": "x"}')
    assert "line 1" in offline.try_run("eval", str(gold)).stderr
    assert offline.try_run("eval", str(gold), "--save").returncode == 2


def test_the_socket_is_for_its_owner_only(live: Live) -> None:
    assert stat.S_IMODE((live.store / "run" / "socket").stat().st_mode) == 0o600
    assert stat.S_IMODE((live.store / "run").stat().st_mode) == 0o700


def listens(live: Live, pid: int) -> bool:
    """Return True if the daemon answers; its socket exists a moment before."""
    try:
        return bool(live.status()["pid"] == pid)
    except CommandError:
        return False


def test_another_user_is_refused_even_where_the_file_modes_would_let_it_in(tmp_path: Path) -> None:
    import sys

    assert os.geteuid() == 0, "this test changes its user, which needs root; CI runs it as root"
    live = Live(tmp_path)
    live.run("init")
    daemon = subprocess.Popen(live.command("daemon"))
    run = live.store / "run"
    try:
        eventually("the daemon listens", lambda: listens(live, daemon.pid))
        run.chmod(0o711)
        (run / "socket").chmod(0o666)
        script = (
            "import os, socket, sys; os.setgid(65534); os.setuid(int(sys.argv[1])); s = socket.socket(socket.AF_UNIX);"
            "s.settimeout(10); s.connect('socket');"
            "s.sendall(bytes.fromhex('0000000893 01 a4 70696e67 80'.replace(' ', ''))); print(s.recv(99).hex())"
        )
        answers = {}
        for uid in (0, 65534):
            done = subprocess.run([sys.executable, "-c", script, str(uid)], cwd=run, capture_output=True, text=True)
            answers[uid] = done.stdout.strip() if done.returncode == 0 else "refused"
        assert "706964" in answers[0], "the owner is answered with a pid"
        assert answers[65534] in ("", "refused")
    finally:
        daemon.terminate()
        daemon.wait(20)


def test_garbage_on_the_socket_does_not_end_the_daemon(live: Live) -> None:
    import socket

    for data in (b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", (3).to_bytes(4, "big") + b"\x93\x01\x02", b""):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(live.store / "run" / "socket"))
            client.sendall(data)
    eventually("the daemon still answers", lambda: live.status()["pid"] == live.daemon_pid())
    for errors in (live.store / "run").glob("errors.jsonl"):
        lines = errors.read_text().splitlines(keepends=True)
        assert all("a client is disconnected" in line for line in lines)
        errors.write_text("")


def test_broken_settings_are_named_and_nothing_is_lost(offline: Live) -> None:
    config = offline.store / "ctxfs.toml"
    text = config.read_text()
    config.write_text(text + "\n[index]\n")
    done = offline.try_run("status")
    assert (done.returncode, "ctxfs.toml" in done.stderr) == (1, True)
    assert config.read_text() == text + "\n[index]\n"
