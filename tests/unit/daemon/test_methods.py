"""The declarations of the RPC methods: one for each, complete, and with the names that clients use."""

import errno
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Literal

import pytest

from ctxfs.daemon.api import registry, store
from ctxfs.daemon.api.methods import METHODS
from ctxfs.daemon.api.params import parse_params
from ctxfs.daemon.api.registry import AuditEvent, ChangeEvent, Check, Effect, RightsBelow, declared_methods
from ctxfs.daemon.server import DAEMON_METHODS
from ctxfs.model.path import Path

STORE_METHODS = frozenset(
    "branch_diff branch_log branches create_branch drop_branch merge_branch "
    "activity add_gold add_remote apply approve_tool audit begin_call blame bundle_add bundle_begin bundle_commit bundle_drop "
    "await_engine follow_audit bundle_files call_state call_tool calls cancel_call check cite cite_source commit content_of correct "
    "context context_budgets curate decide decide_policy delete_snapshot diff doctor evaluate_response find forget forget_history glob "
    "join_shared leave_shared consolidate memories memory_groups memory_sizes mounted_paths nearest "
    "grep history impact import_messages import_state issue_token kept_call list log metadata mountpoints pack_history "
    "check_policy policy policy_matrix erasures "
    "prepare_tables promote pull push "
    "quarantine_impact read read_extracted read_labelled recall record redact_version redo remotes "
    "remove_remote restore "
    "restore_from reviews revoke_token search session_day session_names session_records sessions share shared_health show skill skills "
    "snapshot snapshots stat status sync tokens tool tool_difference tool_digest tools trust_remote trusted_remotes undo undo_decision "
    "unrecorded upkeep verify_context verify_history wait_call whoami write_episodes".split()
)
METHODS_OF_THE_DAEMON = frozenset(
    "add add_server join mount mounted ping reindex remove remove_server stop synced unmount watch".split()
)
CHECKED_BY_METHOD = frozenset(
    "branch_diff branch_log branches create_branch drop_branch merge_branch "
    "ping join synced watch mounted content_of stat list read read_extracted read_labelled apply metadata search find grep glob "
    "add_gold context context_budgets evaluate_response verify_context curate recall record "
    "import_messages import_state history whoami skills skill tools tool "
    "session_day session_names session_records sessions unrecorded call_tool begin_call wait_call call_state cancel_call "
    "await_engine mounted_paths nearest "
    "calls consolidate memories memory_groups memory_sizes kept_call check cite cite_source correct prepare_tables promote "
    "bundle_add bundle_begin bundle_commit bundle_drop bundle_files".split()
)
NEEDING_RIGHTS_BELOW = frozenset("log show diff blame restore restore_from undo redo commit".split())


def test_names_of_methods_are_those_that_clients_use() -> None:
    assert METHODS.keys() == STORE_METHODS
    assert DAEMON_METHODS.keys() == METHODS_OF_THE_DAEMON
    assert not METHODS.keys() & DAEMON_METHODS.keys(), "a method is declared once"


def test_second_declaration_of_a_name_is_refused() -> None:
    copy = ModuleType("copy")
    copy.__dict__.update(vars(store))
    with pytest.raises(ValueError, match="declared twice"):
        declared_methods(store, copy)


def test_each_method_declares_the_check_of_its_permission() -> None:
    methods = {**METHODS, **DAEMON_METHODS}
    assert {name for name, method in methods.items() if method.needs is Check.BY_METHOD} == CHECKED_BY_METHOD
    assert {name for name, method in methods.items() if isinstance(method.needs, RightsBelow)} == NEEDING_RIGHTS_BELOW
    others = methods.keys() - CHECKED_BY_METHOD - NEEDING_RIGHTS_BELOW
    assert all(methods[name].needs is Check.ADMINISTRATORS for name in others)


def test_method_of_the_daemon_has_no_effect_that_only_store_methods_have() -> None:
    assert all(method.effects is Effect.NONE for method in DAEMON_METHODS.values())


def test_queries_are_audited_as_digests() -> None:
    """A query may contain erased words."""
    queries = {"question", "filters", "pattern", "request", "prompt"}
    for method in METHODS.values():
        if isinstance(method.audit, AuditEvent):
            assert method.audit.is_query == (method.audit.subject in queries), method.name


def test_subject_of_an_audit_event_is_an_argument_of_its_method() -> None:
    for method in (*METHODS.values(), *DAEMON_METHODS.values()):
        names = {field.name for field in fields(method.params)}
        match method.audit:
            case AuditEvent(_, subject):
                assert not subject or subject in names, method.name
            case ChangeEvent():
                assert "change" in names, method.name


@dataclass(frozen=True, slots=True)
class Arguments:
    path: Path
    limit: int = 10
    seconds: float | None = None
    names: tuple[str, ...] = ()
    only: Literal["lines", "count"] = "lines"
    dry_run: bool = False


def test_arguments_are_parsed_into_a_dataclass() -> None:
    assert parse_params(Arguments, {"path": "a//b/"}) == Arguments(Path(("a", "b")))
    parsed = parse_params(Arguments, {"path": "", "limit": 5.0, "seconds": 2, "names": ["x"], "only": "count"})
    assert (parsed.limit, parsed.seconds, parsed.names, parsed.only) == (5, 2.0, ("x",), "count")


def test_none_stands_for_the_default() -> None:
    """Commands send it for options that are not set."""
    assert parse_params(Arguments, {"path": "a", "limit": None, "seconds": None}).limit == 10


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("path", {}),
        ("path", {"path": None}),
        ("path", {"path": b"a"}),
        ("limit", {"path": "a", "limit": "5"}),
        ("limit", {"path": "a", "limit": 5.5}),
        ("limit", {"path": "a", "limit": True}),
        ("seconds", {"path": "a", "seconds": "soon"}),
        ("names", {"path": "a", "names": "x"}),
        ("names", {"path": "a", "names": [1]}),
        ("only", {"path": "a", "only": "all"}),
        ("dry_run", {"path": "a", "dry_run": 1}),
        ("dryrun", {"path": "a", "dryrun": True}),
    ],
)
def test_wrong_argument_is_refused_by_its_name(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(OSError, match=r"argument|needed") as refusal:
        parse_params(Arguments, arguments)
    assert (refusal.value.errno, refusal.value.filename) == (errno.EINVAL, name)


def test_types_of_all_arguments_can_be_parsed() -> None:
    for method in (*METHODS.values(), *DAEMON_METHODS.values()):
        with pytest.raises(OSError, match="no such argument"):
            parse_params(method.params, {"no such": 1})


def test_module_of_declarations_declares_nothing() -> None:
    assert not declared_methods(registry)
