"""Test chats as text: messengers and IRC clients, cut into messages with author and day."""

import time
from datetime import date

import pytest

from ctxfs.index.extract.chat_logs import detect_chat_log
from ctxfs.index.extract.chunks import detect_text_kind
from ctxfs.index.extract.formats import extract_chunks

D = date(2023, 5, 8)
CHATS: dict[str, tuple[str, list[tuple[str, date | None]]]] = {
    "whatsapp us": (
        "5/8/23, 10:10 PM - Messages and calls are end-to-end encrypted.\n5/8/23, 10:11 PM - Bob Jones: hi\n"
        "more\n5/31/23, 1:12 AM - Ann: yo\n"
        "5/31/23, 1:13 AM - Bob Jones: <Media omitted>\n",
        [("", D), ("Bob Jones", D), ("Ann", date(2023, 5, 31)), ("Bob Jones", date(2023, 5, 31))],
    ),
    "whatsapp narrow space": (
        "8/5/23, 10:10\u202fPM - Bob: hi\n31/5/23, 10:11\u202fPM - +49 170 1234567: yo\n31/5/23, 10:11\u202fPM - Bob: ok\n",
        [("Bob", D), ("+49 170 1234567", date(2023, 5, 31)), ("Bob", date(2023, 5, 31))],
    ),
    "whatsapp german": (
        "08.05.23, 22:10 - Jörg: hi\n08.05.23, 22:11 - Ann: yo\n08.05.23, 22:12 - Jörg: ok\n",
        [("Jörg", D), ("Ann", D), ("Jörg", D)],
    ),
    "whatsapp spanish": (
        "8/5/2023, 10:10 p. m. - Ann: hi\n8/5/2023, 10:11 p. m. - Bob: yo\n13/5/2023, 10:12 a. m. - Ann: ok\n",
        [("Ann", D), ("Bob", D), ("Ann", date(2023, 5, 13))],
    ),
    "whatsapp ios": (
        "[08.05.23, 22:10:05] Ann: hi\n\u200e[08.05.23, 22:10:06] Bob: \u200eimage omitted\n[08.05.23, 22:10:07] Ann: two\nlines\n",
        [("Ann", D), ("Bob", D), ("Ann", D)],
    ),
    "whatsapp iso": (
        "2023-05-08, 22:10 - Ann: hi\n2023-05-08, 22:11 - Bob: yo\n2023-05-08, 22:12 - Ann: ok\n",
        [("Ann", D), ("Bob", D), ("Ann", D)],
    ),
    "skype": (
        "[5/8/2023 12:00:05 PM] Ann Lee: hi\n[5/8/2023 12:00:06 PM] Bob: yo\n[5/28/2023 12:00:07 PM] Ann Lee: ok\n",
        [("Ann Lee", D), ("Bob", D), ("Ann Lee", date(2023, 5, 28))],
    ),
    "discord": (
        "[08/05/2023 12:00] ann\nhi there\n\n[08/05/2023 12:01] bob\nyo\n\n[18/05/2023 12:02] ann\nok\n",
        [("ann", D), ("bob", D), ("ann", date(2023, 5, 18))],
    ),
    "pidgin": (
        "Conversation with bob at 2023-05-08 12:00\n(12:00:05) Ann: hi\n(12:00:06) bob: yo\n(12:00:07) Ann: ok\n",
        [("", D), ("Ann", D), ("bob", D), ("Ann", D)],
    ),
    "zoom": (
        "10:05:22 From Ann Lee to Everyone:\n\thi\n10:05:25\t From  Bob  to  Everyone : yo\n10:06:00 From Ann Lee to Everyone: ok\n",
        [("Ann Lee", None), ("Bob", None), ("Ann Lee", None)],
    ),
    "kakao": (
        "[Ann] [3:21 PM] hi\n[Bob] [오후 3:22] yo\n[Ann] [3:23 PM] ok\n",
        [("Ann", None), ("Bob", None), ("Ann", None)],
    ),
    "irc brackets": (
        "[12:00] <bob> hi\n[12:01] <@ann> yo\n[12:02] * bob waves\n[12:03] <bob> ok\n",
        [("bob", None), ("ann", None), ("bob", None), ("bob", None)],
    ),
    "irssi": (
        "--- Log opened Mon May 08 12:00:00 2023\n12:00 < bob> hi\n12:01 -!- ann [a@b] has joined #x\n12:01 <@ann> yo\n"
        "--- Day changed Tue May 09 2023\n00:01  * bob waves\n00:02 <+bob> ok\n",
        [
            ("", D),
            ("bob", D),
            ("", D),
            ("ann", D),
            ("", date(2023, 5, 9)),
            ("bob", date(2023, 5, 9)),
            ("bob", date(2023, 5, 9)),
        ],
    ),
    "weechat": (
        "2023-05-08 12:00:05\tbob\thi\n2023-05-08 12:00:06\t-->\tann has joined\n"
        "2023-05-08 12:00:06\t@ann\tyo\n2023-05-08 12:00:07\tbob\tok\n",
        [("bob", D), ("ann", D), ("bob", D)],
    ),
    "energymech": (
        "[2023-05-08 12:00:05] <bob> hi\n[2023-05-08 12:00:06] *** Joins: ann\n"
        "[2023-05-08 12:00:07] <ann> yo\n[2023-05-08 12:00:08] <bob> ok\n",
        [("bob", D), ("", D), ("ann", D), ("bob", D)],
    ),
    "iso stamps": (
        "2023-05-08T12:00:05Z <bob> hi\n2023-05-08T12:00:06Z <ann> yo\n2023-05-08T12:00:07Z <bob> ok\n",
        [("bob", D), ("ann", D), ("bob", D)],
    ),
    "hexchat": (
        "**** BEGIN LOGGING AT Mon May  8 12:00:00 2023\n\nMay 08 12:00:05 <bob>\thi\n"
        "May 08 12:00:06 <ann>\tyo\nMay 08 12:00:07 <bob>\tok\n",
        [("", D), ("bob", D), ("ann", D), ("bob", D)],
    ),
    "mirc": (
        "Session Start: Mon May 08 12:00:00 2023\n[12:00:05] <bob> hi\n[12:00:06] <ann> yo\n[12:00:07] <bob> ok\n",
        [("", D), ("bob", D), ("ann", D), ("bob", D)],
    ),
    "bare": ("<bob> hi\n<ann> yo\n<bob> ok\n", [("bob", None), ("ann", None), ("bob", None)]),
    "line": (
        "2023.05.08 Monday\n12:00\tAnn\thi\n12:01\tBob\tyo\n12:02\tAnn\tok\n",
        [("", D), ("Ann", D), ("Bob", D), ("Ann", D)],
    ),
}


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("suffix", ["txt", "log"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_chat_is_cut_into_messages_with_author_and_day(name: str, suffix: str, line_end: str) -> None:
    text, expected = CHATS[name]
    assert detect_text_kind(f"a.{suffix}", text) == "dialogue"
    chunks = extract_chunks(f"a.{suffix}", text.replace("\n", line_end).encode())
    days = [day.toordinal() if day else None for _, day in expected]
    found = [(chunk.author, chunk.day) for chunk in chunks]
    wanted = [(author, day) for (author, _), day in zip(expected, days, strict=True)]
    assert [pair for pair in found if pair[0]] == [pair for pair in wanted if pair[0]]


def test_long_message_keeps_its_author_on_each_piece() -> None:
    text = f"[12:00] <bob> hi\n[12:01] <ann> {'long words ' * 900}quokka\n[12:02] <bob> ok\n"
    chunks = extract_chunks("a.log", text.encode())
    pieces = [chunk for chunk in chunks if chunk.author == "ann"]
    assert len(pieces) > 8
    assert "quokka" in pieces[-1].text


@pytest.mark.parametrize(
    "text",
    [
        "[2023-05-08 12:00:05] ERROR: failed\n[2023-05-08 12:00:06] INFO: started\n[2023-05-08 12:00:07] INFO: ok\n",
        "[08/05/2023 12:00:05] ERROR: failed\n[08/05/2023 12:00:06] INFO: started\n[08/05/2023 12:00:07] INFO: ok\n",
        "2023-05-08 12:00:05 INFO started\n2023-05-08 12:00:06 WARN slow\n2023-05-08 12:00:07 INFO ok\n",
        "12:00:05 server: started\n12:00:06 worker: slow\n12:00:07 server: ok\n",
        "<items>\n<item> one </item>\n<item> two </item>\n</items>\n",
        "<b> a\n<b> b\n<b> c\n",
        "a\tb\tc\n1\t2\t3\n4\t5\t6\n",
        "Some prose. At 12:00 we met.\n\nThen we left - Bob: late.\n",
        "1/2/23, 4 - 5: six\n",
        "",
    ],
)
def test_text_that_is_no_chat_is_none(text: str) -> None:
    assert detect_chat_log(text) is None


@pytest.mark.parametrize(
    "piece",
    [
        "[12:00] <bob> ",
        "12:00 ",
        "[",
        "<a> ",
        "1/1/23, 1:00 - ",
        "\u200e",
        "1",
        "--- Day changed ",
        "12:00 From ",
        "\t",
        "[1/1/23 1:00] a",
    ],
)
def test_hostile_chat_takes_bounded_time(piece: str) -> None:
    start = time.process_time()
    extract_chunks("a.txt", (piece * (200_000 // len(piece))).encode())
    extract_chunks("a.txt", ((piece * 20 + "\n") * (200_000 // len(piece) // 20)).encode())
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", ["a.log", "a.txt", "a.csv"])
@pytest.mark.parametrize("separator", [" ", ",", "", "\t"])
def test_no_tail_of_a_long_line_is_lost(name: str, separator: str) -> None:
    words = [f"{number}:{'xyz' * 3}." for number in range(3_000)]
    chunks = extract_chunks(name, ("first\n" + separator.join(words) + "\nlast").encode())
    text = "".join(chunk.text for chunk in chunks)
    assert "2999:xyz" in text
    assert max(len(chunk.text) for chunk in chunks) <= 2_000
    assert {(chunk.first, chunk.last) for chunk in chunks if "1500:" in chunk.text} == {(2, 2)}
