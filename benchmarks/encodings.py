"""Share of words that are read right in files of many encodings that declare none.

    python -m benchmarks.encodings [/usr/share/locale]
    python -m benchmarks.encodings --speed FOLDER

The texts are the messages of the translations below a folder (`LANGUAGE/LC_MESSAGES/*.mo`), in encodings that each
language had before UTF-8. `length` is the number of bytes of a text. A text is right if 98 % of its words are.

--speed measures the processor time of reading the files below FOLDER that are UTF-8, against that of `bytes.decode`
and that of cutting them into chunks.
"""

import argparse
import gettext
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ctxfs.index.extract.formats import extract_chunks
from ctxfs.index.extract.text_decoding import decode, read_text

_ENCODINGS = {
    "de": ("iso8859-1", "cp1252"),
    "fr": ("cp1252", "iso8859-15"),
    "es": ("cp1252",),
    "it": ("cp1252",),
    "pt_BR": ("iso8859-1",),
    "sv": ("cp1252",),
    "da": ("iso8859-1",),
    "fi": ("cp1252",),
    "nl": ("cp1252",),
    "pl": ("iso8859-2", "cp1250"),
    "cs": ("iso8859-2", "cp1250"),
    "sk": ("cp1250",),
    "hu": ("iso8859-2", "cp1250"),
    "ro": ("cp1250",),
    "hr": ("cp1250",),
    "tr": ("iso8859-9", "cp1254"),
    "ru": ("cp1251", "koi8-r", "cp866"),
    "uk": ("cp1251", "koi8-u"),
    "bg": ("cp1251",),
    "sr": ("cp1251",),
    "el": ("iso8859-7", "cp1253"),
    "he": ("cp1255",),
    "ar": ("cp1256",),
    "th": ("tis-620",),
    "lt": ("cp1257",),
    "lv": ("cp1257",),
    "ja": ("shift_jis", "euc_jp", "iso2022_jp"),
    "ko": ("euc_kr",),
    "zh_CN": ("gb2312", "gb18030"),
    "zh_TW": ("big5",),
}
_LENGTHS = (30, 100, 400, 2000)
_SAMPLES = 60
_MAX_SPEED_FILES = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="/usr/share/locale", type=Path)
    parser.add_argument("--speed", type=Path, metavar="FOLDER", help="measure the time of UTF-8 files instead")
    arguments = parser.parse_args()
    if arguments.speed:
        measure_speed(arguments.speed)
        return
    folder = arguments.folder
    print(f"{'':22}" + "".join(f"{length:>8}" for length in _LENGTHS))
    sums = [[0, 0] for _ in _LENGTHS]
    for language, encodings in _ENCODINGS.items():
        messages = sorted(set(_messages(folder / language)))
        for encoding in encodings if len(messages) > 200 else ():
            shares = []
            for number, length in enumerate(_LENGTHS):
                texts = list(_texts(messages, encoding, length))
                right = sum(map(_is_right, texts, [encoding] * len(texts)))
                shares.append(right / max(1, len(texts)))
                sums[number][0] += right
                sums[number][1] += len(texts)
            print(f"{language:8}{encoding:14}" + "".join(f"{share:8.2f}" for share in shares))
    print(f"{'all':22}" + "".join(f"{right / max(1, count):8.3f}" for right, count in sums))


def measure_speed(folder: Path) -> None:
    """Print the seconds that reading takes, best of five rounds."""
    files = [(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.*")) if path.is_file()]
    files = [(name, data) for name, data in files if _is_utf8(data)][:_MAX_SPEED_FILES]
    size = sum(len(data) for _, data in files) / 1e6
    plain = _time(lambda: [data.decode() for _, data in files if b"\0" not in data[:8192]])
    reading = _time(lambda: [read_text(data) for _, data in files])
    chunking = _time(lambda: [extract_chunks(name, data) for name, data in files], 1)
    print(
        f"{len(files)} files, {size:.1f} MB: decode {plain:.3f} s, read_text {reading:.3f} s, chunks {chunking:.3f} s"
    )
    print(f"reading costs {100 * (reading - plain) / chunking:.2f} % of cutting into chunks")


def _time(act: Callable[[], object], rounds: int = 5) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        act()
        seconds.append(time.process_time() - start)
    return min(seconds)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def _messages(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("LC_MESSAGES/*.mo")):
        try:
            with path.open("rb") as file:
                catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        except (OSError, ValueError, LookupError):
            continue
        yield from (text for key, text in catalogue.items() if key and isinstance(text, str) and not text.isascii())


def _texts(messages: list[str], encoding: str, length: int) -> Iterator[bytes]:
    chance = random.Random(f"{encoding} {length}")
    for _ in range(_SAMPLES):
        data = b""
        while len(data) < length:
            try:
                data += chance.choice(messages).encode(encoding) + b"\n"
            except UnicodeEncodeError:
                data += b"\n"
        if not data.isascii() or encoding == "iso2022_jp":
            yield data


def _is_right(data: bytes, encoding: str) -> bool:
    expected = set(re.findall(r"\w+", data.decode(encoding).lower()))
    return len(expected & set(re.findall(r"\w+", decode(data).lower()))) >= 0.98 * len(expected)


if __name__ == "__main__":
    main()
