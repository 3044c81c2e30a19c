"""A process that takes turns in a log: `python -m tests.shared.writer URL STORE MODE SECONDS`, the password in PGTEST.

`hold` takes a turn, writes `held`, waits for a line and appends. `append` appends 25 entries.
"""

import os
import sys

from ctxfs.shared.engines import open_log
from ctxfs.shared.log import TURN, Entry, EntryKind, SharedLog, TurnLost, Unreachable


def entry_after(log: SharedLog, node: str = "n", objects: bytes = b"") -> Entry:
    """Return an entry that continues the log."""
    newest = log.head()
    number = newest.number + 1
    return Entry(number, f"{number:040x}", newest.commit, EntryKind.VERSIONS, node, "0" * 32, objects)


def main(url: str, store: str, mode: str, seconds: float) -> None:
    log = open_log(url, store, os.environ["PGTEST"])
    if mode == "append":
        for _ in range(25):
            with log.lease(TURN, seconds):
                log.append(entry_after(log, f"n{os.getpid()}"))
        return
    with log.lease(TURN, seconds):
        late = entry_after(log)
        print("held", flush=True)
        sys.stdin.readline()
        try:
            log.append(late)
            print("appended", flush=True)
        except (TurnLost, Unreachable):
            print("lost", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
