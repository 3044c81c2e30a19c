"""Test paths of mount points, which become paths of the tree and never leave it."""

import pytest

from ctxfs.services.path_hints import path_in_tree

MOUNTPOINTS = ["/home/u/ctx", "/home/u/ctx/inner", "/memory"]
AREAS = {"memory", "pad"}


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ("/home/u/ctx/memory/a.md", "memory/a.md"),
        ("/home/u/ctx", ""),
        ("/home/u/ctx/", ""),
        ("/home/u/ctx//memory//a.md", "memory//a.md"),
        ("/home/u/ctx/inner/pad/x", "pad/x"),
        ("/home/u/ctx-2/memory/a.md", "/home/u/ctx-2/memory/a.md"),
        ("/home/u/ctx/../../etc/passwd", "../../etc/passwd"),  # refused where it is parsed
        ("/memory/a.md", "/memory/a.md"),  # the area comes first
        ("/etc/passwd", "/etc/passwd"),
        ("memory/a.md", "memory/a.md"),
        ("home/u/ctx/memory/a.md", "home/u/ctx/memory/a.md"),
    ],
)
def test_path_below_a_mount_point_is_one_of_the_tree(given: str, inside: str) -> None:
    assert path_in_tree(given, MOUNTPOINTS, AREAS) == inside
