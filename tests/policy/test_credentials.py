"""Test credentials: validity, expiry, and that they only ever narrow the permissions of their principal."""

import contextlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.credentials import grants_by_id, issue_credential
from ctxfs.policy.evaluate import Policy
from ctxfs.policy.rules import NOTHING, Verb, default_rules
from ctxfs.rpc.client import Client
from ctxfs.store.credential_store import CredentialStore
from tests.live import Live, eventually

ALICE = Principal("agent", "alice")
NOW = 1_800_000_000_000_000_000


def rights(path: str, *allow: str, now_ns: int = NOW, seconds: float | None = None) -> Verb:
    """Return the permissions of alice with a credential that allows `allow`."""
    token, _ = issue_credential(ALICE, allow, NOW, seconds)
    policy = Policy(default_rules(), {}, grants_by_id([token]))
    return policy.rights(token.narrowed_principal, TreePath.parse(path), now_ns).verbs


def test_a_token_narrows_and_never_widens() -> None:
    assert rights("memory/alice/a.md", "memory/alice/**:r") == Verb.LIST | Verb.READ
    assert rights("memory/alice/a.md", "memory/{name}/**:r") == Verb.LIST | Verb.READ
    assert rights("memory/bob/a.md", "**:lrwxa") == NOTHING, "she may not without it either"
    assert rights("knowledge/x", "**:rw") == Verb.LIST | Verb.READ
    assert rights("knowledge/x", "memory/alice/**:rw") == NOTHING
    assert rights("knowledge/x", "knowledge/**:w") == NOTHING, "unlisted paths do not exist"
    assert rights("memory/alice/a.md") & Verb.WRITE, "without an allowance it is good for all that she may"


def test_token_reveals_only_the_directories_on_the_way_to_its_paths() -> None:
    token, _ = issue_credential(ALICE, ["memory/alice/**:rw"], NOW, None)
    policy = Policy(default_rules(), {}, grants_by_id([token]))
    for path, there in (("", True), ("memory", True), ("memory/alice", True), ("pad", False), ("memory/shared", False)):
        assert policy.rights(token.narrowed_principal, TreePath.parse(path), NOW).exists is there, path
    assert not policy.rights(token.narrowed_principal, TreePath.parse("memory"), NOW).below, "not all that is below"


def test_expired_and_missing_tokens_allow_nothing() -> None:
    assert rights("memory/alice/a", "**:rw", seconds=60)
    assert rights("memory/alice/a", "**:rw", seconds=60, now_ns=NOW + 61_000_000_000) == NOTHING
    unknown = parse_principal("agent:alice#00000000")
    assert Policy(default_rules()).rights(unknown, TreePath.parse("memory/alice"), NOW).verbs == NOTHING
    assert not Policy(default_rules()).is_unrestricted(parse_principal("human:ada#00000000"))


@pytest.mark.parametrize("allow", ["knowledge/**", "knowledge/**:q", "../x:r", ":r", "**x:r", "", "pаypal/**:r"])
def test_invalid_allowances_are_refused(allow: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        CredentialStore(tmp_path / "tokens.json").issue(ALICE, [allow], 60)
    assert not (tmp_path / "tokens.json").exists()


def test_people_get_no_tokens(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is a person"):
        CredentialStore(tmp_path / "tokens.json").issue(Principal("human", "ada"), [], 60)


def test_the_file_holds_no_token_and_is_for_the_owner_alone(tmp_path: Path) -> None:
    file = CredentialStore(tmp_path / "tokens.json")
    token, text = file.issue(ALICE, ["knowledge/**:r"], 60)
    kept = file.file.read_text()
    assert text.split("_", 2)[2] not in kept
    assert token.id in kept
    assert stat.S_IMODE(file.file.stat().st_mode) == 0o600
    assert file.principal_of(text) == Principal("agent", "alice", token.id)


def test_forged_expired_and_revoked_tokens_are_refused_alike(tmp_path: Path) -> None:
    file = CredentialStore(tmp_path / "tokens.json")
    token, text = file.issue(ALICE, [], 60)
    _, other = file.issue(Principal("agent", "bob"), [], 60)
    _, expired = file.issue(ALICE, [], 0)
    _, revoked = file.issue(ALICE, [], None)
    assert file.revoke(revoked.split("_")[1])
    swapped = f"ctx_{token.id}_{other.split('_', 2)[2]}"
    errors = set()
    for bad in ("", "x", text[:-1], text + "a", text.replace("ctx", "cty"), swapped, expired, revoked, "ctx_\n" * 9000):
        with pytest.raises(PermissionError) as refused:
            file.principal_of(bad)
        errors.add(str(refused.value))
    assert len(errors) == 1, "the answer tells nothing"
    assert file.principal_of(text).name == "alice"
    assert len(file.revoke("agent:alice")) == 1
    with pytest.raises(PermissionError):
        file.principal_of(text)


def test_broken_file_makes_no_token_valid(tmp_path: Path) -> None:
    file = CredentialStore(tmp_path / "tokens.json")
    _, text = file.issue(ALICE, [], 60)
    file.file.write_text("[{")
    with pytest.raises(CommandError, match="no token is good"):
        file.principal_of(text)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a mount of its owner, and some notes."""
    live = Live(tmp_path_factory.mktemp("tokens"))
    live.run("init")
    live.run("mount", str(live.at))
    for name in ("alice", "bob", "shared"):
        (live.at / "memory" / name).mkdir(exist_ok=True)
        (live.at / "memory" / name / "note.md").write_text(f"of {name}\n")
    yield live
    live.close()


def issued(live: Live, *options: str, principal: str = "agent:alice") -> str:
    return live.run("token", "issue", principal, *options).strip()


def test_a_command_with_a_token_acts_for_its_agent(served: Live) -> None:
    token = issued(served, "--allow", "memory/alice/**:r")
    environment = {**os.environ, "CTXFS_TOKEN": token}

    def ctxfs(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(served.command(*arguments), env=environment, capture_output=True, text=True)

    assert ctxfs("cat", "memory/alice/note.md").stdout == "of alice\n"
    assert ctxfs("ls", "memory").stdout.split() == ["alice/"]
    assert ctxfs("cat", "memory/shared/note.md").returncode == 1
    assert "token" not in ctxfs("cat", "memory/bob/note.md").stderr
    assert ctxfs("token", "issue", "agent:alice").returncode == 1, "a token holder issues no token"
    served.run("token", "revoke", token.split("_")[1])
    assert "unknown, revoked or expired" in ctxfs("ls").stderr


def test_a_session_with_a_token_stays_bound_to_it(served: Live) -> None:
    client = Client(served.store / "run")
    assert client.call("join", token=issued(served, "--allow", "memory/alice/**:r"))["principal"] == "agent:alice"
    for other in ({"principal": "human:root"}, {"principal": "agent:alice"}, {"token": issued(served)}):
        with pytest.raises(PermissionError):
            client.call("join", **other)
    with pytest.raises(FileNotFoundError):
        client.call("read", path="memory/bob/note.md")
    client.close()


def test_token_of_another_principal_is_refused(served: Live) -> None:
    client = Client(served.store / "run")
    with pytest.raises(PermissionError, match="not one of"):
        client.call("join", principal="agent:bob", token=issued(served))
    client.close()


@pytest.mark.fuse
def test_mount_loses_access_when_its_token_is_revoked(served: Live) -> None:
    at = served.at.parent / "mnt-token"
    token = issued(served, "--allow", "memory/alice/**:rw", "--allow", ".ctxfs/whoami:r")
    served.run("mount", str(at), "--token", token)
    assert sorted(os.listdir(at)) == ["memory"]
    assert os.listdir(at / "memory") == ["alice"]
    assert (at / ".ctxfs" / "whoami").read_text() == "agent:alice\n"
    (at / "memory" / "alice" / "new.md").write_text("hers\n")
    with open(at / "memory" / "alice" / "new.md") as still_open:
        assert still_open.read() == "hers\n"
        served.run("token", "revoke", token.split("_")[1])
        eventually("nothing is there any more", lambda: not os.path.exists(at / "memory" / "alice"), 1)
        still_open.seek(0)
        with pytest.raises((PermissionError, FileNotFoundError)):
            os.pread(still_open.fileno(), 10, 0)
    assert served.at.joinpath("memory/alice/new.md").read_text() == "hers\n"


def test_tokens_are_listed_without_their_secret(served: Live) -> None:
    token = issued(served, "--ttl", "2h", "--allow", "pad/**:rw", principal="group:writers")
    shown = served.run("token", "list")
    assert "group:writers" in shown
    assert "pad/**:rw" in shown
    assert token.split("_", 2)[2] not in shown
    listed = json.loads(served.run("token", "list", "--json"))
    (mine,) = [row for row in listed if row["id"] == token.split("_")[1]]
    assert mine["expires_ns"] - mine["issued_ns"] == 7200 * 10**9
    assert served.try_run("token", "issue", "agent:x", "--ttl", "soon").returncode == 2


@pytest.mark.parametrize(("more", "kept"), [([], 0), (["--allow", "memory/alice/**:rw"], 1)])
def test_response_facts_are_stored_only_at_paths_that_the_token_allows(
    served: Live, more: list[str], kept: int
) -> None:
    (served.at / "memory" / "shared" / "keys.md").write_text("The signing keys rotate every ninety days in May.\n")
    allow = [option for path in ("context/**:rw", "memory/shared/**:r") for option in ("--allow", path)]
    with contextlib.closing(Client(served.store / "run", timeout=20)) as client:
        client.call("join", token=issued(served, *allow, *more))
        client.call("apply", change=["mkdir", f"context/keys{kept}"])
        request = b'query = "signing keys rotate"\nbudget = 300\nkeep = true\n'
        client.call("apply", change=["put", f"context/keys{kept}/request.toml", request, {}])
        eventually("it is found", lambda: b"ninety" in client.call("read", path=f"context/keys{kept}/context.md"))
        answer = b"The signing keys rotate every ninety days in May [1].\n"
        client.call("apply", change=["put", f"context/keys{kept}/response.md", answer, {}])
        done = client.call("curate", task=f"keys{kept}")
    assert len(done["kept"]) == kept
    assert len(list((served.at / "memory" / "alice" / "fact").glob("*"))) == kept
