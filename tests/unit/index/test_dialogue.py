"""Dialogue in texts: its forms, its turns, and texts that resemble a dialogue."""

import time
from collections.abc import Callable

import pytest

from ctxfs.index.extract.blocks import MAX_CHUNK_CHARACTERS
from ctxfs.index.extract.chunks import detect_text_kind, split_into_chunks
from ctxfs.index.extract.text_features import build_embedding_text

_SAYINGS = (
    "I went to the lake with the dog, and the water was still frozen at the edge.",
    "Did you see the heron again? You told me that it left in October.",
    "It came back. My neighbour feeds it.",
    "Then we should go on Sunday, before it leaves us for good.",
    "Fine, I bring the bread.",
    "And I the thermos.",
)


def _wrap(text: str, width: int = 24) -> str:
    """Return the text in several lines."""
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


_FORMS: dict[str, tuple[str, Callable[[str, str, int], str]]] = {
    "one line": ("a.txt", lambda name, text, n: f"{name}: {text}"),
    "several lines": ("a.txt", lambda name, text, n: _wrap(f"{name}: {text}")),
    "a line of its own": ("a.txt", lambda name, text, n: f"{name}:\n{_wrap(text)}\n"),
    "several paragraphs": ("a.txt", lambda name, text, n: f"{name}: Hm.\n\n{_wrap(text)}\n\nSo much.\n"),
    "bold": ("a.md", lambda name, text, n: f"**{name}:** {_wrap(text)}\n"),
    "bold, colon outside": ("a.md", lambda name, text, n: f"**{name}**: {text}\n"),
    "time in brackets": ("a.txt", lambda name, text, n: f"[12:0{n}] {name}: {_wrap(text)}"),
    "date and time": ("a.txt", lambda name, text, n: f"2024-05-08 12:0{n}:10 {name}: {text}"),
    "date, time, dash": ("a.txt", lambda name, text, n: f"12/31/23, 10:1{n} PM - {name}: {text}"),
    "date in brackets": ("a.txt", lambda name, text, n: f"[31.12.23, 10:1{n}:09] {name}: {text}"),
    "time after the name": ("a.txt", lambda name, text, n: f"{name} (12:0{n}): {text}"),
    "nick": ("irc.log", lambda name, text, n: f"[12:0{n}] <{name}> {text}"),
}


def _conversation(form: str, names: tuple[str, str]) -> tuple[str, str]:
    file, turn = _FORMS[form]
    return file, "\n".join(turn(names[n % 2], text, n) for n, text in enumerate(_SAYINGS)) + "\n"


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("names", [("Ann", "Bob Lee"), ("Анна", "Борис"), ("Zoë", "José")])
def test_turns_in_a_text_are_units_with_their_speakers(form: str, names: tuple[str, str]) -> None:
    if form == "nick":
        names = (names[0].lower(), names[1].replace(" ", "_"))
    file, text = _conversation(form, names)
    assert detect_text_kind(file, text) == "dialogue"
    chunks = split_into_chunks(file, text)
    assert [chunk.author for chunk in chunks] == [names[n % 2] for n in range(len(_SAYINGS))]
    for chunk, saying in zip(chunks, _SAYINGS, strict=True):
        assert saying.split()[-1] in chunk.text


@pytest.mark.parametrize(
    "marker", ["## {}", "### {}:", "**{}:**", "**{}**:", "{}:", "#### 🤖 {}", "## {} (12:30)", "{} said:"]
)
def test_chat_with_a_model_is_a_dialogue_whatever_the_answers_contain(marker: str) -> None:
    answer = (
        "1. Stop the service.\n\n### Rotate\n\n```yaml\nUser: root\nAssistant: none\n```\n\n**Note:** keep the old key."
    )
    parts = [("User", "keys rotation"), ("Assistant", answer), ("User", "more"), ("Assistant", "No.\n\n- one\n- two")]
    text = "# Export\n\n" + "\n\n".join(f"{marker.format(name)}\n\n{body}" for name, body in parts) + "\n"
    chunks = split_into_chunks("chat.md", text)
    assert [chunk.author for chunk in chunks if chunk.author] == ["user", "assistant", "user", "assistant"]
    assert "root" in chunks[2].text


def test_every_piece_of_a_long_turn_has_its_author_and_day() -> None:
    long = "\n".join(f"I remember line {n} of the story that you asked me for." for n in range(80))
    text = f"8 May 2023\n\nAnn: {long}\nBob: Really?\nAnn: Yes, I do.\nBob: Tell me more.\n"
    pieces = [chunk for chunk in split_into_chunks("talk.txt", text) if "of the story" in chunk.text]
    assert len(pieces) > 2
    assert {(chunk.author, chunk.day) for chunk in pieces} == {("Ann", pieces[0].day)}
    assert pieces[0].day is not None
    assert all(len(chunk.text) <= MAX_CHUNK_CHARACTERS for chunk in pieces)


@pytest.mark.parametrize("form", _FORMS)
def test_marker_of_a_turn_is_not_embedded(form: str) -> None:
    file, text = _conversation(form, ("Ann", "Bob"))
    chunk = split_into_chunks(file, text)[0]
    embedded = build_embedding_text(chunk.text, chunk.heading, chunk.author)
    assert embedded.startswith(("I went", "Hm."))
    assert build_embedding_text("Note that 12:30: nothing", "", "Ann") == "Note that 12:30: nothing"


_OTHERS = {
    "prose.txt": "I asked him about it.\nThen he said: no.\nAnn: that was the name on the door.\nYou know me.\nBob wrote: yes.\n"
    * 3,
    "glossary.md": "**Term:** a word you use.\n\n**Lemma:** your word in the dictionary.\n\n**Stem:** what I cut.\n\n**Root:** ours.\n",
    "recipe.txt": "Ingredients:\nFlour: 2 cups\nSugar: 1 cup\n\nMethod:\nMix it.\n\n" * 2,
    "settings.txt": "Host: alpha\nPort: 80\nUser: you\nHost: beta\nPort: 81\nUser: me\nHost: gamma\nPort: 82\nUser: I\n",
    "compose.md": "```yaml\nAnn: me\nBob: you\nAnn: my\nBob: your\n```\n",
    "contacts.txt": "Name: Ann\nEmail: me at home\nName: Bob\nEmail: you know\nName: Cy\nEmail: mine\n",
    "headers.txt": "Classifier: Topic :: Text Editors\nRequires-Dist: attrs >= 1\nClassifier: Natural Language :: English\n"
    * 3,
    "faq.md": "Q: How do I start it?\nA: You press the knob.\n\nQ: Do you stop it?\nA: You wait.\n",
    "faq-bold.md": "**Question:** How do I start it?\n\n**Answer:** You press.\n\n**Question:** And you?\n\n**Answer:** I wait.\n",
    "changes.md": "## Added\n\nyou can\n\n## Fixed\n\nyour bug?\n\n## Added\n\nmy tool\n\n## Fixed\n\nwe did\n",
    "service.log": "[12:00:01] INFO: started your server\n[12:00:02] WARN: slow disk, I wait\n" * 4,
    "messages.log": "12:00:01 sshd: accepted a key\n12:00:02 kernel: usb device found\n" * 4,
    "people.txt": "Ann: 12\nBob: 13\nCarol: 9\nAnn: 14\nBob: 11\nCarol: 8\nAnn: 10\nBob: 9\nCarol: 7\n",
    "doctest.rst": ">>> f()\nTraceback (most recent call last):\nKeyError: you\n\n" * 3,
    "manual.md": "## User\n\nThe account you use.\n\n## Host\n\nYour machine.\n\n## User\n\nMe.\n\n## Host\n\nMine.\n",
    "minutes.md": "**Note:** you are late.\n\n**Warning:** I said so.\n\n**Note:** your turn.\n\n**Warning:** we wait.\n",
}


@pytest.mark.parametrize("name", _OTHERS)
def test_text_that_only_looks_like_a_dialogue_has_no_speakers(name: str) -> None:
    assert detect_text_kind(name, _OTHERS[name]) in ("text", "markdown")
    assert {chunk.author for chunk in split_into_chunks(name, _OTHERS[name])} == {""}


@pytest.mark.parametrize(
    "text",
    [
        "A" * 200_000, "Ann " * 50_000, ("[" * 40 + "\n") * 5_000, "**" * 100_000, "Ann:\n" * 40_000, "1:1 " * 50_000,
        "## " + "User " * 40_000, ("<" * 30 + "\n") * 8_000,
    ],
)  # fmt: skip
def test_hostile_text_is_matched_in_linear_time(text: str) -> None:
    start = time.process_time()
    detect_text_kind("a.md", text)
    assert time.process_time() - start < 2
