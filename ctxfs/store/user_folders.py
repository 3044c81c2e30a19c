"""The folders of a user: home, data, state and settings. It imports few modules, so that commands start fast."""

from __future__ import annotations

import os

from ctxfs.model.errors import CommandError

_REMEDY = "set HOME to a folder of yours, or name the store: ctxfs --store DIR …"


def home_folder() -> str:
    """Return $HOME, or the home folder of the account if that is not set.

    Raise CommandError for a user without one. An empty or relative $HOME counts as not set: it would depend on the
    working directory.
    """
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        import pwd

        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            home = ""
    if not os.path.isabs(home):
        raise CommandError("this user has no home folder", _REMEDY)
    if os.path.exists(home) and not os.path.isdir(home):
        raise CommandError(f"the home folder '{home}' is no folder", _REMEDY)
    return home


def data_folder() -> str:
    """Return $XDG_DATA_HOME, or ~/.local/share. Raise CommandError for a user without a home folder."""
    return os.environ.get("XDG_DATA_HOME") or os.path.join(home_folder(), ".local", "share")


def state_home() -> str:
    """Return $XDG_STATE_HOME, or ~/.local/state. Raise CommandError for a user without a home folder."""
    return os.environ.get("XDG_STATE_HOME") or os.path.join(home_folder(), ".local", "state")


def settings_folder() -> str:
    """Return $XDG_CONFIG_HOME, or ~/.config. Raise CommandError for a user without a home folder."""
    return os.environ.get("XDG_CONFIG_HOME") or os.path.join(home_folder(), ".config")
