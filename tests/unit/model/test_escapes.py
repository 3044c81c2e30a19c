"""Test which characters of untrusted text are escaped."""

import sys

from ctxfs.model.escapes import one_line


def test_printable_characters_stay_and_all_others_but_spaces_and_tabs_are_checked() -> None:
    printable = "".join(filter(str.isprintable, map(chr, range(sys.maxunicode + 1))))
    # `one_line` returns printable text early. A tab makes it look at each character.
    assert one_line(f"{printable}\t") == f"{printable}\t"
    assert one_line("a\nb\x1b[0m\u202ec\u2028") == "a\\nb\\x1b[0m\\u202ec\\u2028"
