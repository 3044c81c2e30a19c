"""Check that `store/rooted_fs.py` alone opens files that others can write; other opens are listed with a reason."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.store import rooted_fs

ROOT = Path(__file__).parent.parent.parent
SOURCES = [path for top in ("ctxfs", "mounts", "mcp_server") for path in sorted((ROOT / top).rglob("*.py"))]

STORE = "files of the store beside the tree, which its owner alone writes"
KERNEL = "/proc and devices"
COMMAND = "files that the user names on the command line, read with the rights of that command"
PACKAGE = "files that come with ctxfs, or a model that the user installed"
DESCRIPTOR = "by a descriptor of the directory, no link followed, with the caller's own flags"
ALLOWED = {
    "ctxfs/index/extract/formats/archive.py": "an archive in memory",
    "ctxfs/bundles/bundle_files.py": COMMAND,
    "ctxfs/capture/hook.py": STORE,
    "ctxfs/capture/installation.py": STORE,
    "ctxfs/cli/bundles.py": COMMAND,
    "ctxfs/cli/contexts.py": COMMAND,
    "ctxfs/cli/evaluation.py": COMMAND,
    "ctxfs/cli/okf.py": COMMAND,
    "ctxfs/cli/doctor.py": KERNEL,
    "ctxfs/cli/main.py": KERNEL,
    "ctxfs/cli/fast_start.py": KERNEL,
    "ctxfs/context/build/token_bound.py": PACKAGE,
    "ctxfs/context/build/manifest.py": PACKAGE,
    "ctxfs/daemon/index_process.py": "the lock of the index, beside the tree, no link followed; and /proc",
    "ctxfs/daemon/launch.py": STORE,
    "ctxfs/daemon/mount_child.py": "a pipe",
    "ctxfs/daemon/mount_records.py": STORE,
    "ctxfs/daemon/watch.py": "names of folders to watch, of which none is read; a link is not descended into",
    "ctxfs/exec/approvals.py": STORE,
    "ctxfs/exec/calls.py": "a working folder of the call, of which nothing is read",
    "ctxfs/exec/folder_provider.py": "opened by beneath, as a descriptor; names of files that are then opened by it",
    "ctxfs/exec/function_program.py": "a descriptor",
    "ctxfs/exec/function_provider.py": "modules that the user installed",
    "ctxfs/exec/call_store.py": STORE,
    "ctxfs/exec/run_script.py": "the program that runs on the caller's side, with the caller's rights",
    "ctxfs/cli/service.py": "a unit in the user's own configuration",
    "ctxfs/store/folder_probe.py": "the descriptor of a folder that rooted_fs opened",
    "ctxfs/versions/recording/scratch.py": DESCRIPTOR,
    "ctxfs/fuse/access.py": "a descriptor of an open file",
    "ctxfs/fuse/backed.py": DESCRIPTOR,
    "ctxfs/fuse/directory_fds.py": DESCRIPTOR,
    "ctxfs/fuse/kernel_mount.py": KERNEL,
    "ctxfs/fuse/lock_owners.py": KERNEL,
    "ctxfs/fuse/mounting.py": KERNEL,
    "ctxfs/fuse/node_fds.py": DESCRIPTOR,
    "ctxfs/fuse/mount_process.py": STORE,
    "ctxfs/fuse/stray_files.py": DESCRIPTOR,
    "ctxfs/fuse/transports/devfuse.py": KERNEL,
    "ctxfs/eventlog/anchor.py": STORE,
    "ctxfs/eventlog/imported.py": "a descriptor that rooted_fs opened",
    "ctxfs/eventlog/audit.py": STORE,
    "ctxfs/eventlog/capture_spool.py": STORE,
    "ctxfs/eventlog/captured_events.py": STORE,
    "ctxfs/eventlog/log.py": STORE,
    "ctxfs/eventlog/session_files.py": "descriptors that rooted_fs opened",
    "ctxfs/eventlog/spool.py": STORE,
    "ctxfs/index/engines/corruption.py": STORE,
    "ctxfs/index/engines/embedders/__init__.py": PACKAGE,
    "ctxfs/index/engines/embedders/sentence_model.py": PACKAGE,
    "ctxfs/index/extract/extractor_process.py": KERNEL,
    "ctxfs/index/extract/ignore.py": "the descriptor of a folder that beneath opened",
    "ctxfs/index/engines/model_build.py": PACKAGE,
    "ctxfs/index/ingest/crash_records.py": STORE,
    "ctxfs/index/ingest/ingester.py": "a descriptor that rooted_fs opened",
    "ctxfs/index/engines/vectors.py": STORE,
    "ctxfs/index/search/column_checkpoint.py": STORE,
    "ctxfs/model/installation.py": PACKAGE,
    "ctxfs/policy/engine.py": STORE,
    "ctxfs/policy/owners.py": STORE,
    "ctxfs/policy/rule_history.py": STORE,
    "ctxfs/rpc/address.py": STORE,
    "ctxfs/mcp_client/document_files.py": STORE,
    "ctxfs/mcp_client/stdio_transport.py": STORE,
    "ctxfs/mcp_client/provider.py": STORE,
    "ctxfs/services/bundles.py": STORE,
    "ctxfs/services/citations.py": "the descriptor of a folder that rooted_fs opened",
    "ctxfs/services/file_marks.py": STORE,
    "ctxfs/shared/certificates.py": STORE,
    "ctxfs/shared/erasures.py": STORE,
    "ctxfs/shared/node_state.py": STORE,
    "ctxfs/shared/policy_records.py": STORE,
    "ctxfs/shared/records_topic.py": STORE,
    "ctxfs/store/agents_md.py": STORE,
    "ctxfs/store/rooted_fs.py": "it is the door",
    "ctxfs/store/config.py": STORE,
    "ctxfs/store/durable_file.py": STORE,
    "ctxfs/store/store_format.py": STORE,
    "ctxfs/store/folder.py": DESCRIPTOR,
    "ctxfs/store/frozen_files.py": DESCRIPTOR,
    "ctxfs/store/foreign_settings.py": "a settings file of the user, whose owner and kind are checked",
    "ctxfs/store/lost_and_found.py": STORE,
    "ctxfs/store/lock.py": STORE,
    "ctxfs/store/registry.py": "the user's own list of stores",
    "ctxfs/store/location.py": "the mounts of the kernel",
    "ctxfs/store/control_file.py": STORE,
    "ctxfs/store/memory_file.py": STORE,
    "ctxfs/store/atomic_replace.py": DESCRIPTOR,
    "ctxfs/store/credential_store.py": STORE,
    "ctxfs/versions/recording/capture.py": "a descriptor that beneath opened",
    "ctxfs/transcripts/archive.py": "a zip file in a descriptor that rooted_fs opened",
    "ctxfs/transcripts/sources.py": "a descriptor that rooted_fs opened",
    "ctxfs/versions/erase.py": STORE,
    "ctxfs/versions/follow_intent.py": STORE,
    "ctxfs/versions/objects/git.py": STORE,
    "ctxfs/versions/objects/git_config.py": STORE,
    "ctxfs/versions/recording/journal.py": STORE,
    "ctxfs/versions/objects/large_objects.py": STORE,
    "ctxfs/versions/marks.py": STORE,
    "ctxfs/versions/remotes/origins.py": STORE,
    "ctxfs/versions/recording/recover.py": STORE,
    "ctxfs/versions/branches/own_objects.py": STORE,
    "ctxfs/versions/branches/refs.py": STORE,
    "ctxfs/versions/remotes/remote.py": STORE,
    "ctxfs/versions/recording/disk_reserve.py": STORE,
    "ctxfs/versions/proposal_refs.py": STORE,
    "ctxfs/versions/rollback.py": STORE,
    "ctxfs/versions/recording/unversioned.py": STORE,
    "ctxfs/versions/recording/maintenance.py": STORE,
    "ctxfs/versions/recording/worktree.py": DESCRIPTOR,
    "ctxfs/web/instance.py": STORE,
    "mcp_server/apps.py": PACKAGE,
    "ctxfs/http/tls.py": COMMAND,
    "mounts/tools.py": PACKAGE,
}
_METHODS = frozenset(("read_text", "read_bytes"))
_OF_OS = frozenset(("open", "fdopen", "walk", "fwalk", "scandir"))
_OF_LIBRARIES = {
    "io": {"open"},
    "codecs": {"open"},
    "gzip": {"open"},
    "tarfile": {"open"},
    "zipfile": {"ZipFile"},
    "mmap": set[str](),
}


def opens_in(path: Path) -> Iterator[int]:
    """Yield the lines that open a file or walk folders without `rooted_fs`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id == "open":
            yield node.lineno
        elif isinstance(called, ast.Attribute):
            owner = called.value.id if isinstance(called.value, ast.Name) else ""
            if (
                called.attr in _METHODS
                or (owner == "os" and called.attr in _OF_OS)
                or called.attr in _OF_LIBRARIES.get(owner, ())
            ):
                yield node.lineno


def test_every_open_goes_through_rooted_fs_or_is_listed_with_its_reason() -> None:
    opens = {str(path.relative_to(ROOT)): lines for path in SOURCES if (lines := list(opens_in(path)))}
    unlisted = {name: lines for name, lines in opens.items() if name not in ALLOWED}
    assert not unlisted, "open these by ctxfs.store.rooted_fs, or list the reason why no other process can write them"
    assert not ALLOWED.keys() - opens.keys(), "these open nothing any more"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "decoy").write_text("outside")
    made = tmp_path / "root"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "file").write_text("inside")
    (made / "link").symlink_to(outside)
    (made / "sub" / "out").symlink_to(outside / "decoy")
    (made / "sub" / "in").symlink_to("file")
    os.mkfifo(made / "sub" / "fifo")
    with open(made / "sub" / "sparse", "wb") as file:
        file.truncate(2**40)
    return made


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "place", ["sub/out", "sub/in", "link/decoy", "sub/fifo", "sub", "", "sub/../../outside/decoy", "sub/sparse"]
)
def test_rooted_fs_opens_regular_files_below_the_root_only(
    root: Path, place: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(rooted_fs, "_has_openat2", False)
    with pytest.raises(OSError):
        rooted_fs.read_file(str(root), place.split("/") if place else [])
    assert rooted_fs.read_file(str(root), ["sub", "file"]) == b"inside"
    assert rooted_fs.read_head(str(root), ["sub", "sparse"], 10) == bytes(10)
