"""One run of the checker."""

from pathlib import Path
from unittest import mock

from tests.shared.checking.operations import Operations
from tests.shared.checking.world import WAIT_FOR_OPEN_FILES, World


def check_world(folder: Path, url: str, store: str, seed: int, nodes: int, rounds: int) -> World:
    """Do random operations with faults on nodes, and raise AssertionError unless the outcome is the model's."""
    world = World(folder, url, store, seed, nodes)
    operations = Operations(world)
    with (
        mock.patch("time.time_ns", world.time_ns),
        mock.patch(*WAIT_FOR_OPEN_FILES),
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
