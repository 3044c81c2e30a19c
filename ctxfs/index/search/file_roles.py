"""The role of a file beside the code of a project, by its path: test, documentation, changelog. Pure."""

import re
from collections.abc import Sequence
from enum import IntEnum

_CHANGELOG = re.compile(r"(?:changes|changelog|history|news|releases?|release[-_]?notes|whatsnew)(?:[-_.\d].*)?")
_CHANGELOG_FOLDERS = frozenset(("changelog", "changelogs", "whatsnew", "releasenotes"))
_TEST = re.compile(r"(?:test|tests|conftest)\b.*|test_.*|.*[-_.](?:test|tests|spec)\.\w+")
_TEST_CLASS = re.compile(r"\w+(?:Test|Tests|TestCase|Spec)\.\w+")
_TEST_FOLDERS = frozenset("test tests testing __tests__ testdata fixtures spec specs e2e".split())
_CODE_KIND = "code"
# Words of a question that ask for files with a role.
_ROLE_WORDS = {
    "test": "test tests testing tested testcase unittest fixture fixtures pytest spec".split(),
    "document": "docs doc documentation readme guide manual tutorial".split(),
    "changelog": "changelog changes changed news release released history version".split(),
}


class FileRole(IntEnum):
    """The purpose of a file beside the code of a project."""

    MAIN = 0
    TEST = 1
    DOCUMENT = 2
    CHANGELOG = 3


_ROLES_BY_WORD = {word: FileRole[role.upper()] for role, words in _ROLE_WORDS.items() for word in words}


def role_of(path: str, kind: str) -> FileRole:
    """Return the role of a file of a kind. A text that is no code is a document."""
    *folders, name = path.split("/")
    lowered = name.lower()
    if kind != _CODE_KIND and (_CHANGELOG.fullmatch(lowered) or not _CHANGELOG_FOLDERS.isdisjoint(folders)):
        return FileRole.CHANGELOG
    if _TEST.fullmatch(lowered) or _TEST_CLASS.fullmatch(name) or not _TEST_FOLDERS.isdisjoint(folders):
        return FileRole.TEST
    return FileRole.MAIN if kind == _CODE_KIND else FileRole.DOCUMENT


def roles_named(words: Sequence[str]) -> frozenset[FileRole]:
    """Return the roles that the words of a question name."""
    return frozenset(_ROLES_BY_WORD[word] for word in map(str.lower, words) if word in _ROLES_BY_WORD)
