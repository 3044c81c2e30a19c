"""Detection and redaction of keys, tokens and passwords in texts. The only module that imports detect-secrets.

Only secrets with a recognisable form are detected; a password that is an ordinary word is not. A form is searched only
in texts that contain one of its marker strings, so that most texts cost a few microseconds.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

# Detector of the library → marker strings, one of which is in every text that it matches.
_LIBRARY_FORMS: dict[str, tuple[str, ...]] = {
    "aws.AWSKeyDetector": ("AKIA", "ASIA", "ABIA", "ACCA", "A3T", "aws", "AWS"),
    "azure_storage_key.AzureStorageKeyDetector": ("AccountKey=",),
    "basic_auth.BasicAuthDetector": ("://",),
    "github_token.GitHubTokenDetector": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    "gitlab_token.GitLabTokenDetector": (
        "glpat-",
        "gldt-",
        "glft-",
        "glsoat-",
        "glrt-",
        "GR1348941",
        "glcbt-",
        "glimt-",
        "glptt-",
        "glagent-",
        "gloas-",
    ),
    "mailchimp.MailchimpDetector": ("-us",),
    "pypi_token.PypiTokenDetector": ("pypi-",),
    "sendgrid.SendGridDetector": ("SG.",),
    "slack.SlackDetector": ("xox", "hooks.slack.com"),
    "square_oauth.SquareOAuthDetector": ("sq0csp-",),
    "stripe.StripeDetector": ("k_live_",),
    "twilio.TwilioKeyDetector": ("AC", "SK"),
}
# Every repetition is bounded or possessive by construction: texts are untrusted, and matching has to take linear time.
_KEY_EDGE = r"[A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,20}-----"
_KEY_END = rf"-----END {_KEY_EDGE}"
_KEY_LINE = re.compile(r"[A-Za-z0-9+/=]{16,}")
# Forms that the library lacks, matches only the beginning of, or searches in quadratic time. A piece of a file may
# begin or end within a key.
_KEY_TAIL = "Private Key, its end"
_OWN_FORMS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Private Key", ("PRIVATE KEY",), rf"-----BEGIN {_KEY_EDGE}(?s:.*?)(?:{_KEY_END}|\Z)"),
    (_KEY_TAIL, ("PRIVATE KEY",), _KEY_END),
    ("JSON Web Token", ("eyJ",), r"(?<![A-Za-z0-9])eyJ[\w-]{8,1000}+\.eyJ[\w-]{8,}+\.[\w-]{8,}"),
    ("OpenAI Token", ("T3BlbkFJ",), r"sk-[\w-]{0,100}?T3BlbkFJ[\w-]{16,}"),
    ("NPM tokens", ("_authToken",), r"/:_authToken=\s{0,9}(?:npm_\S{1,200}|[A-Fa-f0-9-]{36})"),
    ("Anthropic Token", ("sk-ant-",), r"sk-ant-[\w-]{24,}"),
    ("GitHub Token", ("github_pat_",), r"github_pat_\w{22,}"),
    ("Google API Key", ("AIza",), r"AIza[\w-]{35}"),
    ("ctxfs Token", ("ctx_",), r"ctx_[0-9a-f]{8}_[\w-]{43}"),
)
# All markers: the library takes an eighth of a second to load, and most texts do not need it.
_MARKERS = tuple(dict.fromkeys(chain(*_LIBRARY_FORMS.values(), *(marks for _, marks, _ in _OWN_FORMS))))
_BASIC_AUTH = "Basic Auth Credentials"
_MAX_KEY_LINE_CHARS = 20_000
_MIN_VALUE_CHARS = 16  # characters from which a group is the secret itself, and not a variant of its form
_REDACTION = re.compile(r"⟨[^⟨⟩]* withheld⟩")


@dataclass(frozen=True, slots=True)
class _Form:
    kind: str
    marks: tuple[str, ...]
    patterns: Sequence[re.Pattern[str]]


@dataclass(frozen=True, slots=True)
class Secret:
    """A probable secret: its kind, line (from 1), and character offsets in the text."""

    kind: str
    line: int
    start: int
    end: int


def find_secrets(text: str) -> list[Secret]:
    """Return all probable secrets of a text in order; overlapping ones are merged."""
    if not any(mark in text for mark in _MARKERS):
        return []
    forms = (form for form in _load_forms() if any(mark in text for mark in form.marks))
    spans = sorted(chain.from_iterable(_find_spans(form, text) for form in forms))
    secrets: list[Secret] = []
    for start, end, kind in spans:
        if secrets and start < secrets[-1].end:
            last = secrets[-1]
            secrets[-1] = Secret(last.kind, last.line, last.start, max(last.end, end))
        else:
            secrets.append(Secret(kind, text.count("\n", 0, start) + 1, start, end))
    return secrets


def withhold_secrets(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text with a remark in place of each secret, and the kinds of those secrets."""
    secrets = find_secrets(text)
    if not secrets:
        return text, ()
    parts, offset = [], 0
    for secret in secrets:
        parts += [text[offset : secret.start], f"⟨{secret.kind} withheld⟩"]
        offset = secret.end
    return "".join((*parts, text[offset:])), tuple(dict.fromkeys(secret.kind for secret in secrets))


def split_at_remarks(text: str) -> list[str]:
    """Split a text at its redaction remarks."""
    return _REDACTION.split(text)


def _find_spans(form: _Form, text: str) -> Iterator[tuple[int, int, str]]:
    for pattern in form.patterns:
        for match in pattern.finditer(text):
            group = 0
            if pattern.groups == 1 and (form.kind == _BASIC_AUTH or len(match[1] or "") >= _MIN_VALUE_CHARS):
                group = 1
            if form.kind == _KEY_TAIL:
                if (start := _start_of_key(text, match.start())) < match.start():
                    yield start, match.end(), "Private Key"
            elif match.end(group) > match.start(group):
                yield match.start(group), match.end(group), form.kind


def _start_of_key(text: str, end: int) -> int:
    """Return the offset of the first of the key lines directly before `end`; `end` if there are none."""
    while True:
        stop = len(text[max(0, end - _MAX_KEY_LINE_CHARS) : end].rstrip()) + max(0, end - _MAX_KEY_LINE_CHARS)
        line = text.rfind("\n", max(0, stop - _MAX_KEY_LINE_CHARS), stop) + 1
        if stop == end or (line == 0 and stop > _MAX_KEY_LINE_CHARS) or not _KEY_LINE.fullmatch(text, line, stop):
            return end
        end = line


@lru_cache(maxsize=1)
def _load_forms() -> list[_Form]:
    forms = []
    for name, marks in _LIBRARY_FORMS.items():
        module, _, detector = name.partition(".")
        kind = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), detector)
        forms.append(_Form(str(kind.secret_type), marks, tuple(kind.denylist)))
    forms += [_Form(kind, marks, (re.compile(pattern, re.MULTILINE),)) for kind, marks, pattern in _OWN_FORMS]
    return forms
