"""Names and a text that would run in a browser, or leave the page, if they were not escaped."""

import os
from pathlib import Path

from tests.live import Live
from tests.web.site import Answer

SCRIPT = "<script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(1)>"
NAMES = [
    "<img src=x onerror=alert(1)>.md",
    '"onmouseover="alert(1)" x=".md',
    "'onfocus='alert(1)' autofocus='.md",
    "{{7*7}}{% include 'base.html' %}.md",
    "new\nline.md",
    "\u202egpj.exe.md",
    "\x1b]0;title\x07.md",
    os.fsdecode(b"latin-\xe9\xff.md"),
    "#a?b&c=d%41;+.md",
    "n" * 252 + ".md",
    "é" * 126 + ".md",
    "\u05d0\u05d1\u05d2.md",
]
BODY = f"""---
title: "{SCRIPT}"
author: "{IMAGE}"
tags: ["<b onclick=alert(1)>"]
---
# {SCRIPT} numbat

{IMAGE} <iframe src="https://evil.example"></iframe> <style>*{{display:none}}</style>
<a href="javascript:alert(1)" style="position:fixed">numbat</a>

[click](javascript:alert(1)) [data](data:text/html,x) [out](https://evil.example/?q=1) ![numbat](https://evil.example/pixel.png)
[vb](vbscript:x) [up](../../../../etc/passwd) [near](other.md) [JS](JaVaScRiPt:alert(1)) <https://evil.example/auto>

Hidden \u202e text, an escape \x1b[31m and a tag \U000e0041 of the numbat.
"""


ALLOWED = frozenset(
    "html head meta title link script body a header nav div span b form input button main h1 h2 h3 h4 h5 h6 p ul ol li "
    "search label details summary article svg rect defs pattern pre mark bdi table thead tbody tr th td time code em "
    "strong blockquote hr br small option select circle line textarea g text q kbd dl dt dd".split()
)


def check_inert(answer: Answer, scripts: int = 2) -> None:
    """Check that a page has no element and no attribute that could have come from a file."""
    for element in answer.elements():
        assert element.tag in ALLOWED, element
        names = set(element.attributes)
        assert not [name for name in names if name.startswith("on") or name in ("style", "srcdoc")], element
        assert element.tag != "a" or element.attributes.get("href", "/").startswith(
            ("/", "#", "https://evil.example")
        ), element
        assert element.tag != "script" or "/static/" in element.attributes["src"], element
    assert sum(e.tag == "script" for e in answer.elements()) == scripts
    for character in "\u202e\x1b\x07\U000e0041":
        assert character not in answer.text, answer.text[max(0, answer.text.index(character) - 200) :][:300]
    assert "{{7*7}}" not in answer.text or "49{%" not in answer.text


def write_hostile_files(live: Live) -> Path:
    """Write the text under each of the names into the memory of an agent."""
    folder = live.at / "memory" / "mallory"
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / name).write_bytes(BODY.encode())
    return folder
