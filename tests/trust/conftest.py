"""Provide the fixtures of tests/versions, which drive a store's versions without a daemon."""

from tests.versions.conftest import past as past
