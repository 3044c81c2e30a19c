"""One run of the checker."""

from pathlib import Path
from unittest import mock

from tests.shared.checking.operations import Operations
from tests.shared.checking.world import World

_OPEN_FILE_SECONDS = 0.02  # that an exchange waits for a file that stays open


def check_world(folder: Path, url: str, store: str, seed: int, nodes: int, rounds: int) -> World:
    """Do random operations with faults on nodes, and raise AssertionError unless the outcome is the model's."""
    world = World(folder, url, store, seed, nodes)
    operations = Operations(world)
    with (
        mock.patch("time.time_ns", world.time_ns),
        mock.patch("ctxfs.versions.rollback._WAIT_SECONDS", _OPEN_FILE_SECONDS),
    ):
        try:
            operations.begin()
            for _ in range(rounds):
                operations.step()
            world.settle()
            faults = world.faults()
        except BaseException as error:
            error.add_note("\n".join(["before it:", *world.trace]))
            raise
        finally:
            world.close()
    assert not faults, "\n".join([*faults, str(world.counts)])
    return world
