"""The umask of a daemon."""

import os


def limit_umask() -> None:
    """Keep the inherited umask, unless it leaves new files writable for others.

    Mount processes of an earlier version have umask 0, which a daemon started by one inherits.
    """
    inherited = os.umask(0o077)
    os.umask(inherited if inherited & 0o002 else inherited | 0o022)
