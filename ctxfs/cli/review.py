"""The command review: decide the questions that wait for a person."""

import sys

import click

from ctxfs.cli.options import json_option
from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.daemon.session import StoreSession, session
from ctxfs.model.errors import EXIT_NOTHING_FOUND, EXIT_USAGE, CommandError


@click.command()
@click.argument("review_id", metavar="[ID]", default="")
@click.argument("verdict", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="List the waiting claims without prompts")
@click.option("--all", "everything", is_flag=True, help="List decided claims, too")
@json_option("Print the list as JSON")
@click.pass_obj
def review(
    store: str | None, review_id: str, verdict: tuple[str, ...], only_list: bool, everything: bool, as_json: bool
) -> None:
    """Decide doubtful claims

    A verdict is accept, reject, or edit and the corrected claim. Without ID every waiting claim is shown in turn with
    a prompt (needs a terminal). Exit code 3 when nothing waits.

    \b
    ctxfs review 3f9a0c accept
    ctxfs review 3f9a0c edit "Keys are rotated every ninety days."
    """
    with session(store) as opened:
        opened.call("join", tool="cli")
        claims = opened.call("reviews")
        waiting = [claim for claim in claims if everything or not claim["decision"]]
        if review_id:
            _decide(opened, review_id, " ".join(verdict), claims)
        elif as_json:
            print_json(waiting)
        elif only_list or everything or not sys.stdin.isatty():
            for claim in waiting:
                print_line(f"{claim['id']}  ", nl=False, fg="cyan")
                print_line(f"{claim['decision'] or 'waits':<7} {claim['claim']}  ({claim['why']})")
        else:
            _prompt_for_each(opened, waiting)
    if not waiting and not review_id:
        if not as_json:
            warn("nothing waits for review")
        sys.exit(EXIT_NOTHING_FOUND)


def _decide(opened: StoreSession, review_id: str, verdict: str, claims: list[dict[str, str]]) -> None:
    matching = [claim["id"] for claim in claims if claim["id"].startswith(review_id)]
    if len(matching) != 1:
        problem = "no review is called" if not matching else "more than one review begins with"
        raise CommandError(f"{problem} '{review_id}'", "see: ctxfs review --list", EXIT_USAGE)
    if not verdict:
        raise CommandError("the verdict is missing", f"ctxfs review {review_id} accept|reject|edit …", EXIT_USAGE)
    opened.call("decide", id=matching[0], verdict=verdict)
    print_line(f"{matching[0]}: {verdict.split()[0]}")


def _prompt_for_each(opened: StoreSession, waiting: list[dict[str, str]]) -> None:
    for position, claim in enumerate(waiting, 1):
        print_line()
        print_line(f"{position}/{len(waiting)}  context/{claim['task']}  {claim['id']}", fg="cyan")
        print_line(claim["claim"], bold=True)
        print_line(claim["why"])
        answer = click.prompt(
            "[a]ccept [r]eject [e]dit [s]kip [q]uit",
            type=click.Choice(list("aresq")),
            default="s",
            show_choices=False,
            err=True,
        )
        if answer == "q":
            return
        if answer == "e":
            opened.call("decide", id=claim["id"], verdict=f"edit {click.prompt('as it should read', err=True)}")
        elif answer in "ar":
            opened.call("decide", id=claim["id"], verdict="accept" if answer == "a" else "reject")
