"""The command review: decide the questions and proposals that wait for a person."""

import sys

import click

from ctxfs.cli.options import json_option
from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.cli.review_keys import decide_by_keys
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError


@click.command()
@click.argument("words", nargs=-1, metavar="[ID VERDICT | accept ID… | reject ID… | undo ID…]")
@click.option("--rule", default="", metavar="RULE", help="Decide all proposals of a rule, such as same")
@click.option("--list", "only_list", is_flag=True, help="List the waiting claims without prompts")
@click.option("--all", "everything", is_flag=True, help="List decided claims, too")
@json_option("Print the list as JSON")
@click.pass_obj
def review(
    store: str | None, words: tuple[str, ...], rule: str, only_list: bool, everything: bool, as_json: bool
) -> None:
    """Decide doubtful claims and proposals

    A verdict is accept, reject, or (of a claim) edit and the corrected claim; of two contents of a file this, other, or
    both. Without ID each is shown in turn, and a key decides (needs a terminal). Exit code 3 when nothing waits.

    \b
    ctxfs review 3f9a0c accept
    ctxfs review accept 3f9a0c 77aa01
    ctxfs review accept --rule same
    ctxfs review undo 3f9a0c
    ctxfs review 3f9a0c edit "Keys are rotated every ninety days."
    """
    with session(store) as opened:
        opened.call("join", tool="cli")
        claims = opened.call("reviews")
        waiting = [claim for claim in claims if everything or not claim["decision"]]
        if words or rule:
            decide_all(opened, words, rule, claims)
        elif as_json:
            print_json(waiting)
        elif only_list or everything or not sys.stdin.isatty():
            for claim in waiting:
                print_line(f"{claim['id']}  ", nl=False, fg="cyan")
                print_line(f"{claim['decision'] or 'waits':<7} {claim['claim']}  ({claim['why']})")
        else:
            decide_by_keys(opened, waiting)
    if not waiting and not words and not rule:
        if not as_json:
            warn("nothing waits for review")
        sys.exit(EXIT_NOTHING_FOUND)


def decide_all(opened: StoreSession, words: tuple[str, ...], rule: str, claims: list[dict[str, str]]) -> None:
    """Decide the reviews that the words name: an id and its verdict, or a verdict and ids, or all of a rule."""
    if words[:1] == ("undo",) and words[1:] and not rule:
        for review_id in words[1:]:
            name = _find(review_id, claims)
            opened.call("undo_decision", id=name)
            print_line(f"{name}: waits again")
        return
    if words[:1] not in (("accept",), ("reject",)):
        if rule:
            raise CommandError("the verdict is missing", f"ctxfs review accept --rule {rule}", EXIT_USAGE)
        _decide(opened, words[0], " ".join(words[1:]), claims)
        return
    verdict, *ids = words
    if rule:
        ids += [claim["id"] for claim in claims if claim["why"] == rule and claim["kind"] and not claim["decision"]]
    if not ids:
        remedy = "see: ctxfs review --list" if rule else f"ctxfs review {verdict} ID…"
        raise CommandError("there is nothing to decide", remedy, EXIT_NOTHING_FOUND if rule else EXIT_USAGE)
    failures = 0
    for review_id in dict.fromkeys(ids):
        try:
            _decide(opened, review_id, verdict, claims)
        except OSError as error:
            if len(ids) == 1:
                raise
            failures += 1
            warn(f"{review_id}: {error.filename}: {error.strerror}")
    if failures:
        raise CommandError(f"{failures} of {len(ids)} stay undecided", "see: ctxfs review --list")


def _find(review_id: str, claims: list[dict[str, str]]) -> str:
    """Return the id of the review that begins so. Raise CommandError unless there is exactly one."""
    matching = [claim["id"] for claim in claims if claim["id"].startswith(review_id)]
    if len(matching) != 1:
        problem = "no review is called" if not matching else "more than one review begins with"
        raise CommandError(f"{problem} '{review_id}'", "see: ctxfs review --list", EXIT_USAGE)
    return matching[0]


def _decide(opened: StoreSession, review_id: str, verdict: str, claims: list[dict[str, str]]) -> None:
    name = _find(review_id, claims)
    if not verdict:
        raise CommandError("the verdict is missing", f"ctxfs review {review_id} accept|reject|edit …", EXIT_USAGE)
    opened.call("decide", id=name, verdict=verdict)
    print_line(f"{name}: {verdict.split()[0]}")
