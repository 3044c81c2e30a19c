"""Test the connection of a dead mount process."""

import os
import threading

from ctxfs.fuse.dead_connection import DeadConnection
from tests.live import eventually


def test_connection_that_has_ended_can_be_released() -> None:
    """The kernel ends the connection of an unused mount together with the old mount, before the release."""
    connection = DeadConnection(os.open("/", os.O_RDONLY))  # reading a directory fails as a connection that has ended
    connection.start()
    eventually(
        "its thread has ended", lambda: "dead connection" not in {thread.name for thread in threading.enumerate()}, 10
    )
    connection.release()
