"""Test the split of texts into words, as contexts weigh them."""

import pytest

from ctxfs.index.engines.word_split import split_words
from ctxfs.index.extract.batch_split import split_texts


def words(texts: list[str]) -> list[list[str]]:
    """Return the words of each text, for any first character."""
    split = split_texts(texts, split_words)
    out: list[list[str]] = [[] for _ in texts]
    for text, begin, end in zip(split.texts.tolist(), split.begins.tolist(), split.ends.tolist(), strict=True):
        out[text].append(split.lowered[begin:end].decode())
    return out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n", []),
        ("one", ["one"]),
        ("Rotate the key, then-wait.", ["rotate", "the", "key", "then", "wait"]),
        ("getFile_name of HTTPServer2", ["get", "file", "name", "of", "httpserver2"]),
        ("École naïve", ["ecole", "naive"]),
        ("E\u0301cole na\u00adi\u0308ve \ufb01le", ["ecole", "naive", "file"]),
        ("ΩMEGA файлы", ["ωmega", "файл"]),
        ("東京都 は", ["東京", "京都", "は", "東", "京", "都"]),
        ("a\x01b\u00a0c\u2003d", ["a", "b", "c", "d"]),
        ("bad \udcff byte", ["bad", "byte"]),
    ],
)
def test_words_are_split_and_lowercased(text: str, expected: list[str]) -> None:
    assert words([text]) == [expected]
    assert words(["before x", text, text, "after"]) == [["before", "x"], expected, expected, ["after"]]
    assert split_texts(["", text], split_words).lengths.tolist() == [0, len(expected)]


def test_words_are_found_by_prefix() -> None:
    split = split_texts(["Keys and a keyring", "a b", "йa йb x"], split_words)
    assert split.find_words_with_prefixes({"ke", "a"}) == [(0, "keys"), (0, "a"), (0, "keyring"), (1, "a")]
    assert (2, "йa") in split.find_words_with_prefixes({"йa"})
    assert split.find_words_with_prefixes(set()) == split_texts([], split_words).find_words_with_prefixes({"ke"}) == []
