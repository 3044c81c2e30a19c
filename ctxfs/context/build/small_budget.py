"""Contexts of budgets that are too small for any piece: as much of the heading as fits, and the budget that is needed. Pure."""

from collections.abc import Callable, Sequence

from ctxfs.context.build.pack import largest_fitting
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.request import Request
from ctxfs.context.build.tokens import Tokenizer

_MAX_COUNTED_PIECES = 20


def describe_small_budget(
    pieces: Sequence[Piece], rendered: Callable[[Sequence[Piece]], str], request: Request, tokenizer: Tokenizer
) -> str:
    """Return a note that passages were found, but that the budget is too small for any."""
    shortest = sorted(pieces, key=lambda piece: len(piece.text))[:_MAX_COUNTED_PIECES]
    needed = min(tokenizer.count(rendered([piece])) for piece in shortest)
    count = len(pieces)
    return (
        f"{count} passage{'s' * (count > 1)} found, but {request.budget} tokens are too few for any "
        f"→ the shortest needs a budget of {needed}"
    )


def truncate_heading(text: str, request: Request, tokenizer: Tokenizer) -> str:
    """Return as much of the heading as a very small budget allows: the budget has no exceptions.

    A truncated heading is useful, a truncated JSON value is not: other formats are empty then.
    """
    if request.format != "markdown":
        return ""
    low = largest_fitting(len(text), lambda length: tokenizer.count(text[:length]) <= request.budget)
    # Half a word may have more tokens than the whole one, and counts need not grow with the text.
    while low and (not text[low : low + 1].isspace() or tokenizer.count(text[:low]) > request.budget):
        low -= 1
    return text[:low]
