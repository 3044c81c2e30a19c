"""A prompt is answered from the store: within its tokens, never twice in a window, and with nothing if nothing is known."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.capture.client_hooks import HOOK_CLIENTS, HookCommand
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.context.delivery.recall import PREAMBLE, plain_query
from ctxfs.index.query import parse_query
from ctxfs.rpc.client import Client, NoDaemon
from ctxfs.store.layout import Layout
from tests.capture.clients import EVENTS
from tests.capture.test_hook import PROGRAM
from tests.live import Live, eventually, make_corpus

QUESTION = "How often are the signing keys rotated?"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a corpus and a daemon without a mount."""
    folder = tmp_path_factory.mktemp("recall")
    made = Live(folder)
    made.corpus = make_corpus(folder / "corpus")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook")
    daemon = subprocess.Popen(made.command("daemon"))
    try:
        eventually("the daemon serves", lambda: is_served(made))
        made.wait_idle()
        yield made
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)


def is_served(live: Live) -> bool:
    try:
        return bool(live.status())
    except NoDaemon:
        return False


def ask(
    live: Live,
    client: str,
    session: str,
    prompt: str,
    tokens: int = 1000,
    event: str = "prompt",
    principal: str = "",
    **members: Any,
) -> str:
    """Send an event as the client does; return stdout."""
    payload = {**EVENTS[client][event], "session_id": session, "conversation_id": session, "prompt": prompt, **members}
    command = HookCommand(PROGRAM, str(live.store), client, principal, tokens).line(event)
    done = subprocess.run(["sh", "-c", command], input=json.dumps(payload), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def context_in(output: str, event: str) -> str:
    answer = json.loads(output)
    assert set(answer) == {"hookSpecificOutput"}
    assert answer["hookSpecificOutput"]["hookEventName"] == event
    text: str = answer["hookSpecificOutput"]["additionalContext"]
    return text


@pytest.mark.parametrize("client", ["claude-code", "codex", "gemini-cli"])
def test_prompt_is_answered_in_the_form_of_the_client_and_once(served: Live, client: str) -> None:
    name = HOOK_CLIENTS[client].events["prompt"]
    text = context_in(ask(served, client, f"once-{client}", QUESTION), name)
    assert "ninety days" in text
    assert "rotation.md" in text
    assert text.startswith(PREAMBLE), "it is data and no instruction"
    assert ask(served, client, f"once-{client}", QUESTION) == "", "the window has it already"
    assert "ninety days" in ask(served, client, f"other-{client}", QUESTION), "another session has another window"


def test_daemon_takes_events_by_itself(served: Live) -> None:
    ask(served, "claude-code", "alone", "Please remember the zebra.", 0)
    files = served.store / "history"
    eventually("the record is in the log", lambda: list(files.glob("????-??-??/claude-code-alone.jsonl")), 5)


def test_captured_prompt_is_searched(served: Live, tmp_path: Path) -> None:
    offline = Live(tmp_path)
    offline.run("init")
    for live in (served, offline):
        ask(live, "claude-code", "found", "The pangolinword harbour opens. <private>narwhalword</private>", 0)
        eventually("the prompt is found", lambda live=live: "claude-code-found" in search(live, "pangolinword"))
        assert "claude-code-found" not in search(live, "+narwhalword")


def search(live: Live, question: str) -> str:
    return live.try_run("search", question).stdout


def test_compaction_begins_a_new_window(served: Live) -> None:
    assert "ninety days" in ask(served, "claude-code", "compacted", QUESTION)
    assert ask(served, "claude-code", "compacted", QUESTION) == ""
    assert ask(served, "claude-code", "compacted", "", event="compact") == ""
    assert "ninety days" in ask(served, "claude-code", "compacted", QUESTION)


def test_erased_session_leaves_no_window(served: Live) -> None:
    assert "ninety days" in ask(served, "claude-code", "erased", QUESTION)
    windows = served.store / "deliveries" / "recall-claude-code-erased"
    assert windows.exists()
    eventually("it is recorded", lambda: QUESTION in served.run("history", "show", "--json"))
    served.run("history", "forget", "claude-code-erased", "--yes")
    assert not windows.exists()


def test_changed_source_is_recalled_again(served: Live) -> None:
    file = served.corpus / "till.md"
    file.write_text("# Tills\n\nThe zebrafinch till listens on port 9144.\n")
    prompt = "Which port does the zebrafinch till listen on?"
    eventually("the file is found", lambda: "9144" in ask(served, "codex", "changed", prompt))
    assert ask(served, "codex", "changed", prompt) == ""
    file.write_text("# Tills\n\nThe zebrafinch till listens on port 7001.\n")
    eventually("the new text is recalled", lambda: "7001" in ask(served, "codex", "changed", prompt))


def test_unknown_question_has_no_answer(served: Live) -> None:
    assert ask(served, "claude-code", "unknown", "xylophonequartet ouagadougou?") == ""


def test_repeated_unknown_question_has_no_answer(served: Live) -> None:
    """The first time, the question was recorded, and so history has all of its words."""
    prompt = "Does the xylophonequartet of ouagadougou play marimbas?"
    assert ask(served, "claude-code", "again", prompt) == ""
    eventually("the prompt is recorded", lambda: "marimbas" in served.run("history", "show", "--json"))
    assert ask(served, "claude-code", "again", prompt) == ""


def test_answer_keeps_to_its_tokens(served: Live) -> None:
    count = open_tokenizer("bound").count
    for tokens in (100, 150, 250):
        output = ask(served, "codex", f"tokens-{tokens}", QUESTION, tokens)
        assert not output or count(context_in(output, "UserPromptSubmit")) <= tokens
    long_prompt = f"{QUESTION} {'and then some other words ' * 2000}"
    output = ask(served, "codex", "long", long_prompt, 300)
    assert not output or count(context_in(output, "UserPromptSubmit")) <= 300


def test_agent_recalls_only_what_it_may_read(served: Live) -> None:
    client = Client(served.store / "run", timeout=10)
    text = b"# Vault\n\nThe kookaburra vault opens with the seventh key.\n"
    client.call("apply", change=["mkdir", "memory/bob"])
    client.call("apply", change=["mkdir", "memory/bob/fact"])
    client.call("apply", change=["put", "memory/bob/fact/vault.md", text])
    client.close()
    prompt = "Which key opens the kookaburra vault?"
    eventually("a person recalls it", lambda: "seventh" in ask(served, "codex", "mine", prompt))
    assert "seventh" in ask(served, "codex", "bob", prompt, principal="agent:bob")
    output = ask(served, "codex", "alice", prompt, principal="agent:alice")
    assert "seventh" not in output
    assert "vault.md" not in output


def test_cursor_takes_no_context_at_a_prompt(served: Live) -> None:
    assert ask(served, "cursor", "cursor", QUESTION) == ""


def test_prompt_of_the_session_is_not_recalled_to_it(served: Live) -> None:
    prompt = "Remember the word quizzaciously for the release."
    ask(served, "claude-code", "own", prompt)
    eventually("the prompt is recorded", lambda: "quizzaciously" in served.run("history", "show", "--json"))
    assert "quizzaciously" not in ask(served, "claude-code", "own", "Which word was for the release? quizzaciously?")


def test_record_of_the_prompt_does_not_hide_the_answer_of_another_session(served: Live) -> None:
    """Nothing is as near to a prompt as its own record, which is in the history before the answer or after it."""
    ask(served, "codex", "past", "We decided to raise the refund limit of the shop to 200000 cents.")
    prompt = "What did we decide about the refund limit?"
    eventually("it is found", lambda: "200000" in served.try_run("search", "--json", f"{prompt} kind:history").stdout)
    for attempt in range(2):
        session = f"now-{attempt}"
        served.run("record", prompt, "--session", f"claude-code-{session}")
        eventually("the prompt is found", lambda name=session: found(served, f"session:claude-code-{name}"))
        assert "200000" in ask(served, "claude-code", session, prompt)


def found(live: Live, question: str) -> bool:
    return live.try_run("search", "--json", question).returncode == 0


def test_without_a_daemon_there_is_no_answer(layout: Layout, tmp_path: Path) -> None:
    live = Live(tmp_path)
    assert live.store == layout.root
    assert ask(live, "claude-code", "s", QUESTION) == ""


@pytest.mark.parametrize(
    "prompt",
    [
        'say "never" -again +must kind:fact path:/etc since:1d mode:exact',
        "-x --all session:abc said:>2026-01-01 speaker:ada",
        '"' * 99,
        "++--",
        "a:b:c http://x.y:80/z",
    ],
)
def test_prompt_is_no_query_language(prompt: str) -> None:
    query = parse_query(plain_query(prompt))
    assert not (query.has_filters or query.phrases or query.must or query.must_not or query.remarks)
    assert query.mode == "hybrid"


def test_query_of_a_long_prompt_has_its_start_and_its_end() -> None:
    query = plain_query("first " + "x " * 50_000 + " last")
    assert query.startswith("first")
    assert query.endswith("last")
    assert len(query) < 3000
