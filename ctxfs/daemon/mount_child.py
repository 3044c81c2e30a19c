"""Mount processes as children of the daemon: started afresh, or forked as a spare before the daemon begins.

The spare shares the imported modules, so that the first mount does not import them again. It is forked while there is
one thread and no open file, and waits for its arguments on a pipe.
"""

import json
import os
import signal
import subprocess
import sys
from typing import Any


class MountChild:
    """A mount process that this daemon has started: its pid, and the descriptor on which it reports readiness."""

    def __init__(self, pid: int, ready: int) -> None:
        self.pid = pid
        self.ready = ready


class Spare:
    """A forked process that becomes the first mount process."""

    def __init__(self, pid: int, orders: int, ready: int) -> None:
        self._pid = pid
        self._orders = orders
        self._ready = ready

    def start(self, arguments: dict[str, Any]) -> MountChild:
        """Send the arguments, with which the process begins to serve. Call this once."""
        os.write(self._orders, json.dumps(arguments).encode())
        os.close(self._orders)
        return MountChild(self._pid, self._ready)


def fork_spare() -> Spare:
    """Fork a spare. The child ends by itself if this process ends without sending arguments."""
    import ctxfs.fuse.mount_process

    orders_in, orders_out = os.pipe()
    ready_in, ready_out = os.pipe()
    pid = os.fork()
    if pid:
        os.close(orders_in)
        os.close(ready_out)
        return Spare(pid, orders_out, ready_in)
    os.close(orders_out)
    os.close(ready_in)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open(orders_in, "rb") as orders:
        text = orders.read()
    os._exit(ctxfs.fuse.mount_process.serve(json.loads(text), ready_out) if text else 0)


def start_child(arguments: dict[str, Any], dead: int | None = None) -> MountChild:
    """Start a mount process. `dead` is the descriptor of the FUSE connection of the process that it replaces."""
    ready_in, ready_out = os.pipe()
    passed = (ready_out,) if dead is None else (ready_out, dead)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "ctxfs.fuse.mount_process", json.dumps({**arguments, "dead": dead}), str(ready_out)],
            stdin=subprocess.DEVNULL,
            pass_fds=passed,
            start_new_session=True,
            cwd="/",
        )
    except BaseException:
        os.close(ready_in)
        raise
    finally:
        os.close(ready_out)
    child = MountChild(process.pid, ready_in)
    process.returncode = 0  # reaped through its pidfd, not by this object
    return child
