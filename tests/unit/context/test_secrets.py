"""Test that keys, tokens and passwords are detected without false positives, and absent from the redacted text."""

import pytest

from ctxfs.context.build.secrets import find_secrets, split_at_remarks, withhold_secrets

# Put together here, so that no scanner reports this file as a leak.
KEY_BODY = "\n".join(["MIIEpAIBAAKCAQEA" + "x7Q" * 16] * 4)
KEY = f"-----BEGIN RSA {'PRIVATE'} KEY-----\n{KEY_BODY}\n-----END RSA {'PRIVATE'} KEY-----"
SECRETS = {
    "AWS Access Key": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub Token": "ghp_" + "a1B2" * 9,
    "GitLab Token": "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "Slack Token": "xoxb-" + "123456789012-" + "abcdefghij",
    "Stripe Access Key": "sk_live_" + "a1B2" * 6,
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NSJ9." + "dBjftJeZ4CVPmB92K27uhbUJU1p1r",
    "OpenAI Token": "sk-proj-" + "a1B2" * 6 + "T3BlbkFJ" + "c3D4" * 6,
    "Anthropic Token": "sk-ant-" + "api03-" + "a1B2" * 10,
    "Google API Key": "AIza" + "a1B2c" * 7,
    "ctxfs Token": "ctx_0123abcd_" + "a" * 43,
    "Private Key": KEY,
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_and_withheld(kind: str) -> None:
    secret = SECRETS[kind]
    text = f"# Setup\n\nexport THING={secret}\nthen go on\n"
    secrets = find_secrets(text)
    assert [(match.kind, match.line) for match in secrets] == [(kind, 3)]
    redacted, kinds = withhold_secrets(text)
    assert secret not in redacted
    assert redacted == f"# Setup\n\nexport THING=⟨{kind} withheld⟩\nthen go on\n"
    assert kinds == (kind,)
    assert split_at_remarks(redacted) == ["# Setup\n\nexport THING=", "\nthen go on\n"]


def test_only_the_password_of_an_address_is_withheld() -> None:
    redacted, kinds = withhold_secrets("git clone https://ada:" + "hunter2@example.org/x.git")
    assert redacted == "git clone https://ada:⟨Basic Auth Credentials withheld⟩@example.org/x.git"
    assert kinds == ("Basic Auth Credentials",)


def test_part_of_a_key_in_a_piece_is_withheld() -> None:
    head, tail = KEY[: len(KEY) // 2], KEY[len(KEY) // 2 :]
    assert "MIIE" not in withhold_secrets(f"before\n{head}")[0]
    assert "MIIE" not in withhold_secrets(f"{tail[tail.index(chr(10)) + 1 :]}\nafter")[0]
    assert withhold_secrets(f"{tail}\nafter")[0].endswith("\nafter")


@pytest.mark.parametrize(
    "text",
    [
        "the aws console, the key and the password are in the vault; see https://example.org:8080/a@b",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b, sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b785",
        "an eyJ is the start of every token; ghp_ and sk-ant- are prefixes; AKIA too",
        "def retry(url): return url  # SKU-123, ACME-us12",
        "",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert withhold_secrets(text) == (text, ())
