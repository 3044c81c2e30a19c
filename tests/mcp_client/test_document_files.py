"""Test the stored documents of MCP servers."""

import os
import threading
from pathlib import Path

from ctxfs.mcp_client.document_files import store_document


def test_documents_that_are_fetched_at_once_are_each_whole(tmp_path: Path) -> None:
    names = [f"{'n' * 120}-{number}.md" for number in range(6)]  # alike in their first hundred characters
    failures: list[BaseException] = []

    def fetch(name: str) -> None:
        try:
            for turn in range(20):
                store_document(tmp_path, (name,), f"{name} {turn}".encode() * 500, f"test://{name}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fetch, args=(name,)) for name in names for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    for name in names:
        assert (tmp_path / name).read_bytes().startswith(f"{name} ".encode())
        assert os.getxattr(tmp_path / name, "user.ctx.trust") == b"untrusted"
