"""The screens of the page, one module each with its `SCREENS`. The first of all is the home."""

from ctxfs.web.page import Screen
from ctxfs.web.screens import ask, contexts, files, now, timeline

SCREENS: tuple[Screen, ...] = (*ask.SCREENS, *contexts.SCREENS, *files.SCREENS, *timeline.SCREENS, *now.SCREENS)
