"""The screens of the page, one module each with its `SCREENS`. The first of all is the home."""

from ctxfs.web.page import Screen
from ctxfs.web.screens import access, ask, contexts, files, memory, memory_actions, now, review, timeline

SCREENS: tuple[Screen, ...] = (
    *ask.SCREENS,
    *contexts.SCREENS,
    *memory.SCREENS,
    *memory_actions.SCREENS,
    *review.SCREENS,
    *files.SCREENS,
    *timeline.SCREENS,
    *now.SCREENS,
    *access.SCREENS,
)
