"""Searches of the command line through a daemon, without click, for a fast start."""

from __future__ import annotations

import os

from ctxfs.cli.hit_output import FORMATS
from ctxfs.cli.search_output import DEFAULT_HITS, MAX_HITS, print_hits, print_notes, report_outcome
from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client
from ctxfs.store.served_store import find_served_run

_COMMAND = "search"
_STORE = "--store"
_FLAGS = {"--json": "json", "--weak": "weak", "--explain": "explain", "--no-pager": "no_pager"}
_FLAGS |= {"-l": "files", "--files-with-matches": "files"}
_VALUES = {"-n": "limit", "--limit": "limit", "--below": "below", "--format": "form", _STORE: "store"}


class Search:
    """A search with the options that run without click."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.flags: set[str] = set()
        self.values = {"limit": str(DEFAULT_HITS), "below": "", "form": "text", "store": ""}

    @property
    def is_valid(self) -> bool:
        """Return True unless click reports a wrong value, or the question comes from standard input."""
        limit, question = self.values["limit"], " ".join(self.words)
        return (
            limit.isascii()
            and limit.isdecimal()
            and 1 <= int(limit[:9]) <= MAX_HITS
            and self.values["form"] in FORMATS
            and bool(question.strip())
            and question != "-"
        )

    @property
    def form(self) -> str:
        """Return the form of the output, as the command `search` chooses it."""
        form = self.values["form"]
        if "json" in self.flags or form == "json":
            return "json"
        return "path" if "files" in self.flags else form


def parse_search(words: list[str]) -> Search | None:
    """Return the search that the words of a command line mean; None if they need another parser."""
    search, rest = Search(), list(words)
    if len(rest) > 2 and rest[0] == _STORE:
        search.values["store"] = rest[1]
        del rest[:2]
    if not rest or rest.pop(0) != _COMMAND:
        return None
    while rest:
        word = rest.pop(0)
        if word == "--":
            search.words += rest
            break
        if word in _FLAGS:
            search.flags.add(_FLAGS[word])
        elif word in _VALUES and rest and not rest[0].startswith("-"):
            search.values[_VALUES[word]] = rest.pop(0)
        elif word.startswith("-"):
            return None
        else:
            search.words.append(word)
    return search if search.is_valid else None


def run_search(search: Search) -> int | None:
    """Print the answer and return the exit code.

    Return None, without any output, if no daemon serves the store, or if it answers with an error: the command of click
    repeats the request, and describes the error.
    """
    run, values = find_served_run(search.values["store"]), search.values
    if not run:
        return None
    question = " ".join(search.words)
    try:
        client = Client(run)
        if token := os.environ.get("CTXFS_TOKEN"):
            client.call("join", token=token, tool="shell")
        answer = client.call("search", question=question, below=values["below"], limit=int(values["limit"]))
    except (CommandError, OSError):
        return None
    print_notes(answer)
    print_hits(answer, (), form=search.form, explain="explain" in search.flags, weak="weak" in search.flags)
    return report_outcome(answer, search.form)
