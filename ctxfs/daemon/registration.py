"""Registration of sources and MCP servers in ctxfs.toml, with the checks that a new one must pass."""

import os
import shutil
from dataclasses import replace
from pathlib import Path as HostPath

from ctxfs.app import App
from ctxfs.model.errors import CommandError
from ctxfs.store.config import add_source, check_source_name, remove_source
from ctxfs.store.settings import ServerSource, Source


def register_server(app: App, server: ServerSource) -> None:
    """Write a server into ctxfs.toml. Raise CommandError if the name is taken."""
    taken = {source.name: "source" for source in app.settings.sources}
    taken |= {other.name: "server" for other in app.settings.servers}
    taken |= {name: "tool" for name in app.tools.calls.registry.tools()[0] if "/" not in name}
    if server.name in taken:
        raise CommandError(f"there is a {taken[server.name]} called '{server.name}' already", "choose another name")
    add_source(app.layout.config, server)


def unregister_server(app: App, name: str) -> None:
    """Remove a server from ctxfs.toml, with its stored files and approvals. Raise CommandError if there is none."""
    if not remove_source(app.layout.config, name, ServerSource):
        raise CommandError(f"no server is called '{name}'", "see: ctxfs tools list")
    app.tools.approvals.drop(f"{name}/")
    shutil.rmtree(app.layout.servers / name, ignore_errors=True)


def register_source(app: App, new_source: Source) -> tuple[str, bool]:
    """Write a source into ctxfs.toml; return its name, and False if it was there already.

    An empty name stands for that of the folder. Raise CommandError for an invalid source.
    """
    source = _check_source(app, new_source)
    new = source not in app.settings.sources
    if new:
        add_source(app.layout.config, source)
    return source.name, new


def _check_source(app: App, source: Source) -> Source:
    folder = HostPath(source.path)
    if not folder.is_dir():
        fault = "is not a folder" if folder.exists() else "does not exist"
        raise CommandError(f"'{folder}' {fault}", "give the path of a folder: ctxfs add DIR")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise CommandError(f"'{folder}' cannot be read", "check its permissions")
    real, store = folder.resolve(), app.layout.root.resolve()
    if real == store or real.is_relative_to(store):
        raise CommandError(f"'{folder}' lies inside the store itself", "choose a folder of your own")
    source = replace(source, name=check_source_name(source.name or real.name), path=str(real))
    if any(server.name == source.name for server in app.settings.servers):
        raise CommandError(f"there is a server called '{source.name}'", "choose another: --name NAME")
    for other in app.settings.sources:
        if other.name == source.name and other != source:
            raise CommandError(
                f"a source called '{source.name}' exists already ({other.path})", "choose another: --name NAME"
            )
    return source
