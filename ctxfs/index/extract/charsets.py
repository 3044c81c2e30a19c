"""Charset of bytes that are not UTF-8: as the file declares it, else as its bytes suggest. The only importer of chardet.

Time is bounded: declarations are sought in the first and last kilobytes, and statistics are made of a sample.
"""

import codecs
import itertools
import re
from collections.abc import Iterator
from functools import lru_cache

_HEAD_BYTES = 4096
_TAIL_BYTES = 1024
_MODE_LINES = 5  # lines at the begin and the end of a file in which editors look for settings
MAX_SAMPLE_BYTES = 8192
_MIN_SURE_RUNS = 6
_MIN_SCORE_RATIO = 1.3
_MIN_ACCENT_SHARE = 0.5
_LATIN_END = 0x250  # the code point after the letters of Latin script
FALLBACK = "cp1252"

# Python lists these as text encodings. No text uses them, and some take quadratic time.
_UNSAFE = frozenset(
    "idna mbcs oem palmos punycode raw_unicode_escape rot_13 undefined unicode_escape unicode_internal".split()
)
# Labels that programs write, and supersets that decode all that the name promises, mostly as browsers take them.
_SUPERSETS = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "big5hkscs",
}  # fmt: skip
_LABELS = {
    "x-sjis": "cp932", "x-gbk": "gb18030", "x-euc-jp": "euc_jp", "x-mac-cyrillic": "mac_cyrillic", "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman", "applemac": "mac_roman", "ansinew": "cp1252", "ansi": "cp1252", "iso-8859-8-i": "iso8859-8",
    "iso-8859-8-e": "iso8859-8", "ks_c_5601-1987": "cp949", "ks_c_5601": "cp949", "x-windows-949": "cp949",
    "unicode-1-1-utf-8": "utf-8", "utf8mb4": "utf-8", "utf8x": "utf-8", "x-user-defined": "cp1252", "x-x-big5": "big5hkscs",
    "windows-874": "cp874", "dos-874": "cp874", "x-cp1252": "cp1252", "x-cp1251": "cp1251", "x-cp1250": "cp1250",
    "cp936": "gb18030", "unicode": "utf-16", "ucs-2": "utf-16", "iso-10646-ucs-2": "utf-16",
}  # fmt: skip

# Each expression matches in linear time. The charset is the one group.
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*[\"']([\w.:-]{1,40})", re.IGNORECASE)
_META = re.compile(rb"<meta\b[^>]{0,400}?\bcharset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w.:-]{1,40})", re.IGNORECASE)
_MIME = re.compile(rb"\bcontent-type:[^\n]{0,200}?\bcharset\s{0,9}=\s{0,9}\\?[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_CSS = re.compile(rb"^@charset \"([\w.:-]{1,40})\"")
_LATEX = re.compile(rb"\\usepackage\s{0,9}\[([\w-]{1,40})\]\s{0,9}\{inputenc\}")
_TEX = re.compile(rb"^%\s{0,9}!TEX encoding\s{0,9}=\s{0,9}([\w.:-]{1,40})", re.MULTILINE | re.IGNORECASE)
_EDITOR = re.compile(rb"\b(?:file)?(?:en)?coding\s{0,9}[:=]\s{0,9}[\"']?([\w.:-]{1,40})|\bfenc=([\w.:-]{1,40})")
_OWN_HEAD = re.compile(rb"\s*(?:<|@charset|%|\\|[\w-]{1,40}:\s)")  # markup, CSS, TeX, or the headers of a mail
_HEAD_DECLARATIONS = (_XML, _META, _MIME, _CSS, _LATEX, _TEX)
_LATIN_NUMBER = re.compile(r"^latin[-_](?=\d)")
_LINE_END_SUFFIX = re.compile(r"[-_](?:unix|dos|mac)$")

# One or two accented letters beside an ASCII letter, in any encoding of Latin script but those of DOS.
_ACCENT = re.compile(rb"(?:(?<=[A-Za-z])[\xc0-\xff]{1,2}|(?<![\xc0-\xff])[\xc0-\xff]{1,2}(?=[A-Za-z]))(?![\xc0-\xff])")
# Letters of DOS, Macintosh, KOI8 and of East Asia, none of Windows and ISO.
_C1_LETTER = re.compile(rb"[\x81-\x84\x86-\x89\x8b\x8d\x8f\x90\x98\x9b\x9d]")
_LETTER_RUN = re.compile(rb"[\xc0-\xff]+")
# A sign between two letters: a byte that is no letter in this encoding, though it is one in the right one.
_MISREAD_SIGN = re.compile(r"[^\W\d_][\xa1-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7][^\W\d_]")
_LATIN = ("cp1252", "cp1250", "iso8859-2", "cp1254", "cp1257", "iso8859-15")
_UNLIKELY = ("cp037", "cp500", "cp1006", "cp720", "kz1048", "ptcp154", "cp273", "cp424", "cp875", "cp1026", "cp1140")


@lru_cache(maxsize=256)
def find_codec(label: str) -> str | None:
    """Return the name of the codec for the label of a charset, a superset where programs mean one; None if unknown."""
    plain = _LATIN_NUMBER.sub("latin", _LINE_END_SUFFIX.sub("", label.strip().strip("\"'").lower()))
    try:
        name = codecs.lookup(_LABELS.get(plain, plain.replace("windows-", "cp").replace("win-", "cp"))).name
        b"a".decode(name, "ignore")
    except (LookupError, ValueError):  # ValueError: a label that contains NUL
        return None
    return None if name.replace("-", "_") in _UNSAFE else _SUPERSETS.get(name, name)


def declared_codec(data: bytes) -> str | None:
    """Return the codec of the charset that the head of a file declares, or a mode line of an editor."""
    return next((name for label in _declared_labels(data) if (name := find_codec(label))), None)


def own_declared_codec(data: bytes) -> str | None:
    """Return the codec that a file declares for itself; None for a declaration in a text about charsets."""
    is_own = _OWN_HEAD.match(data[:_HEAD_BYTES]) is not None or any(_find_mode_labels(data))
    return declared_codec(data) if is_own else None


def declared_plain_codec(data: bytes) -> str | None:
    """Return the codec of the declared charset itself, where `declared_codec` returns a superset; None if unknown."""
    label = next((label for label in _declared_labels(data) if find_codec(label)), None)
    try:
        return codecs.lookup(label.strip()).name if label is not None else None
    except (LookupError, ValueError):
        return None


def _declared_labels(data: bytes) -> Iterator[str]:
    head = data[:_HEAD_BYTES]
    for expression in _HEAD_DECLARATIONS:
        if match := expression.search(head):
            yield match[1].decode("ascii", "replace")
    yield from _find_mode_labels(data)


def _find_mode_labels(data: bytes) -> Iterator[str]:
    """Yield the charsets of the mode lines of editors, at the begin and the end of a file."""
    head = data[:_HEAD_BYTES]
    for line in (*head.split(b"\n")[:_MODE_LINES], *data[-_TAIL_BYTES:].split(b"\n")[-_MODE_LINES:]):
        if match := _EDITOR.search(line[:400]):
            yield next(group for group in match.groups() if group).decode("ascii", "replace")


def detect_codec(sample: bytes) -> str:
    """Return the codec that fits a sample of bytes best; `FALLBACK` if these are too few.

    Single bytes above 127 beside ASCII letters are accents of Latin script: those of other scripts come in runs.
    """
    return _rank_codecs(sample[:MAX_SAMPLE_BYTES])[0]


def rival_codecs(sample: bytes, codec: str) -> list[str]:
    """Return the codecs that fit a sample of bytes about as well as the detected one, which may be wrong therefore.

    A codec is no rival if it reads signs where the detected one reads letters, or mixes scripts or cases in words.
    """
    sample = sample[:MAX_SAMPLE_BYTES]
    best, scores = _rank_codecs(sample)
    least = scores.get(codec, 0) / _MIN_SCORE_RATIO
    limit = _count_odd_letters(sample, codec)
    names = {best, *(name for name, score in scores.items() if score >= least)} - {codec}
    return [name for name in sorted(names) if _count_odd_letters(sample, name) <= limit]


def _rank_codecs(sample: bytes) -> tuple[str, dict[str, float]]:
    """Return the best codec, and the scores of all that are possible."""
    from chardet import EncodingEra, detect_all  # late: its import takes a tenth of a second

    runs = len(_LETTER_RUN.findall(sample))
    other_letters = len(_C1_LETTER.findall(sample))
    is_latin = len(_ACCENT.findall(sample)) >= _MIN_ACCENT_SHARE * (runs + other_letters)
    if not runs and not other_letters and not _is_misread(sample, FALLBACK):
        return FALLBACK, dict.fromkeys(_LATIN, 0.0)  # signs alone: quotes, currencies, degrees
    candidates = detect_all(
        sample,
        ignore_threshold=True,
        encoding_era=EncodingEra.ALL,
        max_bytes=MAX_SAMPLE_BYTES,
        prefer_superset=False,  # windows-1250 is none of iso-8859-2
        compat_names=False,
        include_encodings=_LATIN if is_latin else None,
        exclude_encodings=None if is_latin else _UNLIKELY,
        no_match_encoding=FALLBACK,
    )
    scores: dict[str, float] = {}
    for candidate in candidates:
        if name := find_codec(candidate["encoding"] or ""):
            scores.setdefault(name, candidate["confidence"])
    if is_latin:
        scores = {name: score for name, score in scores.items() if not _is_misread(sample, name)} or scores
    best = next(iter(scores), FALLBACK)
    is_sure = runs >= _MIN_SURE_RUNS or scores.get(best, 0) > _MIN_SCORE_RATIO * scores.get(FALLBACK, 0)
    return best if is_sure or not is_latin else FALLBACK, scores


def _is_misread(sample: bytes, codec: str) -> bool:
    return _MISREAD_SIGN.search(sample.decode(codec, "replace")) is not None


def _count_odd_letters(sample: bytes, codec: str) -> int:
    """Return the number of signs among the characters beyond ASCII, and of letters that do not fit the letter before them."""
    text = sample.decode(codec, "replace")
    count = sum(not character.isascii() and not character.isalpha() for character in text)
    for before, character in itertools.pairwise(text):
        if (before.isascii() and character.isascii()) or not (before.isalpha() and character.isalpha()):
            continue
        is_other_script = (ord(before) < _LATIN_END) != (ord(character) < _LATIN_END)
        count += is_other_script or (before.islower() and character.isupper())
    return count
