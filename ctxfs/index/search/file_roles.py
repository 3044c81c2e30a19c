"""The role of a file beside the content of a project, by its path: test, documentation, changelog, licence, settings. Pure."""

import re
from collections.abc import Sequence
from enum import IntEnum

_CHANGELOG = re.compile(r"(?:changes|changelog|history|news|releases?|release[-_]?notes|whatsnew)(?:[-_.\d].*)?")
_CHANGELOG_FOLDERS = frozenset(("changelog", "changelogs", "whatsnew", "releasenotes"))
_TEST = re.compile(r"(?:test|tests|conftest)\b.*|test_.*|.*[-_.](?:test|tests|spec)\.\w+")
_TEST_CLASS = re.compile(r"\w+(?:Test|Tests|TestCase|Spec)\.\w+")
_TEST_FOLDERS = frozenset("test tests testing __tests__ testdata fixtures spec specs e2e".split())
# Files of a fixed text, which every project has.
_LICENCE = re.compile(r"(?:un)?licen[cs]e(?:[-_.].*)?|copying(?:\.\w+)?|(?:notice|copyright|patents)(?:\.txt)?")
_LICENCE_FOLDERS = frozenset(("licenses", "licences"))
# Files for the tools around a project: CI services, editors, linters, version control, containers.
_SETTINGS = re.compile(
    r"\.(?:editorconfig|(?:git|docker|npm|eslint|prettier|hg|rg|f?d|helm|vscode|style[a-z]{0,10})ignore|gitattributes|gitmodules"
    r"|mailmap|git-blame-ignore-revs|flake8|pylintrc|coveragerc|isort\.cfg|yamllint|npmrc|nvmrc|yarnrc|browserslistrc"
    r"|python-version|ruby-version|tool-versions|clang-(?:format|tidy)|rubocop|shellcheckrc|bumpversion\.cfg)(?:\.ya?ml)?"
    r"|\.(?:eslintrc|prettierrc|stylelintrc|babelrc|markdownlint(?:-cli2)?|commitlintrc|lintstagedrc|releaserc|jshintrc|swcrc)(?:\..*)?"
    r"|\.?(?:pre-commit(?:-config|-hooks)?|gitlab-ci|travis|readthedocs|codecov|appveyor|cirrus|drone|mergify|goreleaser"
    r"|golangci|azure-pipelines|bitbucket-pipelines|dependabot|cloudbuild|circle)\.ya?ml"
    r"|renovate\.json5?|\.?codespellrc|jenkinsfile|codeowners|tox\.ini|sonar-project\.properties"
)
_SETTINGS_FOLDERS = frozenset(
    (".github", ".gitlab", ".circleci", ".vscode", ".idea", ".devcontainer", ".buildkite", ".husky")
)
_DOCUMENT_NAME = re.compile(r".*\.(?:md|rst|txt|adoc)")
_CODE_KIND = "code"
# Words of a question that ask for files with a role.
_ROLE_WORDS = {
    "test": "test tests testing tested testcase unittest fixture fixtures pytest spec".split(),
    "document": "docs doc documentation readme guide manual tutorial".split(),
    "changelog": "changelog changes changed news release released history version".split(),
    "licence": "licence licences licenced license licenses licensed licensing copyright copyleft notice".split(),
    "settings": (
        "ci cd workflow workflows github gitlab actions pipeline pipelines jenkins travis circleci appveyor azure "
        "config configs configuration configure configured setting settings lint linter linting linters eslint prettier "
        "flake8 pylint editorconfig gitignore dockerignore gitattributes ignore ignored precommit pre-commit hook hooks tox "
        "codecov coverage dependabot renovate readthedocs codeowners editor indent indentation"
    ).split(),
}


class FileRole(IntEnum):
    """The purpose of a file beside the code of a project."""

    MAIN = 0
    TEST = 1
    DOCUMENT = 2
    CHANGELOG = 3
    LICENCE = 4
    SETTINGS = 5


_ROLES_BY_WORD = {word: FileRole[role.upper()] for role, words in _ROLE_WORDS.items() for word in words}


def role_of(path: str, kind: str) -> FileRole:
    """Return the role of a file of a kind. A text that is no code is a document, unless it has another role."""
    *folders, name = path.split("/")
    lowered = name.lower()
    if (_LICENCE.fullmatch(lowered) and kind != _CODE_KIND) or not _LICENCE_FOLDERS.isdisjoint(map(str.lower, folders)):
        return FileRole.LICENCE
    is_in_settings = not _SETTINGS_FOLDERS.isdisjoint(folders) and not _DOCUMENT_NAME.fullmatch(lowered)
    if is_in_settings or _SETTINGS.fullmatch(lowered):
        return FileRole.SETTINGS
    if kind != _CODE_KIND and (_CHANGELOG.fullmatch(lowered) or not _CHANGELOG_FOLDERS.isdisjoint(folders)):
        return FileRole.CHANGELOG
    if _TEST.fullmatch(lowered) or _TEST_CLASS.fullmatch(name) or not _TEST_FOLDERS.isdisjoint(folders):
        return FileRole.TEST
    return FileRole.MAIN if kind == _CODE_KIND else FileRole.DOCUMENT


def roles_named(words: Sequence[str]) -> frozenset[FileRole]:
    """Return the roles that the words of a question name."""
    return frozenset(_ROLES_BY_WORD[word] for word in map(str.lower, words) if word in _ROLES_BY_WORD)
