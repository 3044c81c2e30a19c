"""A store's past driven without a daemon, as in the tests of versions."""

from tests.versions.conftest import past as past
