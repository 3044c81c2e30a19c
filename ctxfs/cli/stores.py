"""The commands init, trust, add, remove and reindex: stores and their sources."""

import os
from pathlib import Path as HostPath

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import yes_option
from ctxfs.cli.output import count_noun, print_line, warn
from ctxfs.cli.progress import follow_index
from ctxfs.daemon.session import LocalSession, connect
from ctxfs.model.errors import EXIT_NO_STORE, CommandError
from ctxfs.store.layout import choose_root, create_store, find_store
from ctxfs.store.location import CONFIG_NAME, STORE_NAME, check_location
from ctxfs.store.registry import confirm_store, programs_of


@click.command()
@click.pass_obj
def init(store: str | None) -> None:
    """Create or complete a store

    A store that is there keeps its content; missing folders and files are added.
    """
    root = choose_root(store)
    existed = (root / CONFIG_NAME).exists()
    if existed:
        check_location(root)
    layout = create_store(root)
    confirm_store(layout.root)
    print_line(f"{'store is ready' if existed else 'made a store'} at {layout.root}")
    if not existed:
        print_line("next: ctxfs add DIR, then ctxfs mount MOUNTPOINT")


@click.command()
@click.argument("place", type=click.Path(), default=STORE_NAME)
@yes_option()
def trust(place: str, yes: bool) -> None:
    """Confirm a store from elsewhere

    PLACE is a store that others made or that was moved, or the folder with its .ctxfs.
    """
    named = HostPath(os.path.abspath(os.path.expanduser(place)))
    root = named if (named / CONFIG_NAME).exists() else named / STORE_NAME
    if not (root / CONFIG_NAME).exists():
        raise CommandError(f"no store at '{named}'", "name the folder that holds ctxfs.toml", EXIT_NO_STORE)
    check_location(root)
    programs = programs_of(root)
    print_line(f"{root} starts {'these, as you:' if programs else 'no program by its settings'}", bold=True)
    for line in programs:
        print_line(f"  {line}")
    if not yes and not click.confirm("Use this store?"):
        raise CommandError("it was not confirmed", f"look at '{root / CONFIG_NAME}' first")
    confirm_store(root)
    print_line(f"{root} is confirmed as it is now")


@click.command()
@click.argument("folder", type=click.Path())
@click.option("--name", default="", help="Name below knowledge/ [default: name of the folder]")
@click.option("--writable", is_flag=True, help="Allow changes through the tree")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Pattern of .gitignore for files that are not indexed; repeatable",
)
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Pattern of .gitignore for files that are no noise; repeatable",
)
@click.option("--tools", is_flag=True, help="Offer the programs of its folder tools/ after their approval")
@click.pass_obj
def add(
    store: str | None,
    folder: str,
    name: str,
    writable: bool,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    tools: bool,
) -> None:
    """Add a folder as knowledge/NAME

    FOLDER is indexed and not copied. Lock files, generated code and other noise are found by words only.
    """
    opened = connect(find_store(store))
    path = os.path.abspath(os.path.expanduser(folder))
    try:
        if isinstance(opened, LocalSession):
            from ctxfs.daemon.registration import register_source
            from ctxfs.store.settings import Source

            source = Source(name, path, writable, exclude, tools, include)
            name, new = register_source(opened.app, source)
            news = "added; it is indexed at the next mount, or now by: ctxfs reindex"
        else:
            added = opened.call(
                "add",
                path=path,
                name=name,
                writable=writable,
                exclude=list(exclude),
                tools=tools,
                include=list(include),
            )
            name, new = added["name"], added["new"]
            news = "added; it is being indexed (ctxfs status --wait)"
        print_line(f"knowledge/{name} is {news if new else 'there already'}")
        if new and writable:
            warn(
                "its files have no versions here: what is changed or deleted in the tree is so in the folder → git there"
            )
    finally:
        opened.close()


@click.command()
@click.argument("name", shell_complete=completion_values.sources)
@click.pass_obj
def remove(store: str | None, name: str) -> None:
    """Remove a folder from the tree

    The folder itself is not touched.
    """
    name = name.removeprefix("knowledge/").strip("/")
    opened = connect(find_store(store))
    try:
        if isinstance(opened, LocalSession):
            from ctxfs.store.config import remove_source

            if not remove_source(opened.app.layout.config, name):
                raise CommandError(f"no source is called '{name}'", "see: ctxfs status")
        else:
            opened.call("remove", name=name)
    finally:
        opened.close()
    print_line(f"removed knowledge/{name}; its folder is untouched")


@click.command()
@click.option("--full", is_flag=True, help="Read all files again, not only changed ones")
@click.pass_obj
def reindex(store: str | None, full: bool) -> None:
    """Bring the index up to date

    A progress bar shows the state.
    """
    layout = find_store(store)
    opened = connect(layout)
    if isinstance(opened, LocalSession):
        _reindex_locally(opened, full)
        return
    opened.call("reindex", full=full)
    opened.close()
    follow_index(layout, "meaning")


def _reindex_locally(opened: LocalSession, full: bool) -> None:
    import threading

    from ctxfs.cli.progress import IndexBar
    from ctxfs.index.events import Event
    from ctxfs.index.ingest.indexer import Indexer
    from ctxfs.store.lock import StoreLock

    lock = StoreLock(opened.app.layout.run)
    lock.acquire()
    done = threading.Event()
    faults: list[str] = []
    waits: list[str] = []

    def notify(event: Event) -> None:
        if event.kind in ("error", "failed"):
            faults.append(event.detail)
            done.set()
        elif event.kind == "waits" and event.detail:
            waits.append(event.detail)
        elif event.kind == "idle":
            done.set()

    indexer = Indexer(opened.app.sources.indexer_options(), notify)
    indexer.start()
    (indexer.rebuild if full else indexer.set_roots)(opened.app.sources.indexed_roots())
    with IndexBar() as bar:
        while not done.wait(0.2):
            bar.show(opened.call("status")["index"])
        opened.app.searcher.refresh(graph=True)
        bar.show(opened.call("status")["index"])
    indexer.stop()
    lock.release()
    for fault in (*faults, *waits[-1:]):
        warn(fault)
    print_summary(opened.call("status")["index"])
    if faults:
        raise click.exceptions.Exit(1)


def print_summary(index: dict[str, int]) -> None:
    """Print one line on the searchable content."""
    print_line(
        f"{index['searchable']} of {count_noun(index['files'], 'file')} searchable, "
        f"{count_noun(index['chunks'], 'chunk')}, {count_noun(index['vectors'], 'vector')}"
    )
