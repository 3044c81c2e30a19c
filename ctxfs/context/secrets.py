"""Keys, tokens and passwords in texts: where they are, and the text without them. The only room that knows detect-secrets.

Forms that can be told by themselves are looked for; a password that is just a word is not. A form is looked for only where a text has
a mark of it, so that most texts cost a few microseconds.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

# Detector of the library → what every text has in which it finds something.
_LIBRARY: dict[str, tuple[str, ...]] = {
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
    "npm.NpmDetector": ("_authToken",),
    "pypi_token.PypiTokenDetector": ("pypi-",),
    "sendgrid.SendGridDetector": ("SG.",),
    "slack.SlackDetector": ("xox", "hooks.slack.com"),
    "square_oauth.SquareOAuthDetector": ("sq0csp-",),
    "stripe.StripeDetector": ("k_live_",),
    "twilio.TwilioKeyDetector": ("AC", "SK"),
}
_KEY_END = r"-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----"
# What the library does not know, or finds only the beginning of. A piece of a file may begin or end within a key.
_OWN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Private Key", ("PRIVATE KEY",), rf"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----(?s:.*?)(?:{_KEY_END}|\Z)"),
    ("Private Key", ("PRIVATE KEY",), rf"(?:^[A-Za-z0-9+/=]{{16,}}\s+)+{_KEY_END}"),
    ("JSON Web Token", ("eyJ",), r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    ("OpenAI Token", ("T3BlbkFJ",), r"sk-[\w-]*T3BlbkFJ[\w-]{16,}"),
    ("Anthropic Token", ("sk-ant-",), r"sk-ant-[\w-]{24,}"),
    ("GitHub Token", ("github_pat_",), r"github_pat_\w{22,}"),
    ("Google API Key", ("AIza",), r"AIza[\w-]{35}"),
    ("ctxfs Token", ("ctx_",), r"ctx_[0-9a-f]{8}_[\w-]{43}"),
)
# All of them: the library takes an eighth of a second to load, and most texts need none of it.
_MARKS = tuple(dict.fromkeys(chain(*_LIBRARY.values(), *(marks for _, marks, _ in _OWN))))
_IN_AN_ADDRESS = "Basic Auth Credentials"
_LEAST_VALUE = 16  # characters of a group that is the secret, and not one of its forms
_WITHHELD = re.compile(r"⟨[^⟨⟩]* withheld⟩")


@dataclass(frozen=True, slots=True)
class _Form:
    kind: str
    marks: tuple[str, ...]
    patterns: Sequence[re.Pattern[str]]


@dataclass(frozen=True, slots=True)
class Secret:
    """What looks like a secret: of what kind, on which line (from 1), at which characters of the text."""

    kind: str
    line: int
    start: int
    end: int


def find_secrets(text: str) -> list[Secret]:
    """Everything in a text that looks like a secret, in order; what overlaps is one."""
    if not any(mark in text for mark in _MARKS):
        return []
    forms = (form for form in _forms() if any(mark in text for mark in form.marks))
    found = sorted(chain.from_iterable(_spans(form, text) for form in forms))
    out: list[Secret] = []
    for start, end, kind in found:
        if out and start < out[-1].end:
            last = out[-1]
            out[-1] = Secret(last.kind, last.line, last.start, max(last.end, end))
        else:
            out.append(Secret(kind, text.count("\n", 0, start) + 1, start, end))
    return out


def withhold(text: str) -> tuple[str, tuple[str, ...]]:
    """(the text with a remark in place of each secret, the kinds of those there were)."""
    secrets = find_secrets(text)
    if not secrets:
        return text, ()
    parts, at = [], 0
    for secret in secrets:
        parts += [text[at : secret.start], f"⟨{secret.kind} withheld⟩"]
        at = secret.end
    return "".join((*parts, text[at:])), tuple(dict.fromkeys(secret.kind for secret in secrets))


def without_remarks(text: str) -> list[str]:
    """The parts of a text between remarks that something is withheld."""
    return _WITHHELD.split(text)


def _spans(form: _Form, text: str) -> Iterator[tuple[int, int, str]]:
    for pattern in form.patterns:
        for match in pattern.finditer(text):
            group = 0
            if pattern.groups == 1 and (form.kind == _IN_AN_ADDRESS or len(match[1] or "") >= _LEAST_VALUE):
                group = 1
            if match.end(group) > match.start(group):
                yield match.start(group), match.end(group), form.kind


@lru_cache(maxsize=1)
def _forms() -> list[_Form]:
    forms = []
    for name, marks in _LIBRARY.items():
        module, _, detector = name.partition(".")
        kind = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), detector)
        forms.append(_Form(str(kind.secret_type), marks, tuple(kind.denylist)))
    forms += [_Form(kind, marks, (re.compile(pattern, re.MULTILINE),)) for kind, marks, pattern in _OWN]
    return forms
