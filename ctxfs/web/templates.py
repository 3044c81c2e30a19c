"""The templates of the pages. All values are escaped, and their control characters shown: the tree is written by agents.

This is the only module that imports Jinja2.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ctxfs.index.search.word_matches import find_matches
from ctxfs.model.path import lines_of, one_line

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Templates:
    """The templates of this package, compiled at first use, or by `prepare`."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("ctxfs.web"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_show_controls,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "lines": _lines,
            "matches": _matches,
            "number": _number,
            "size": _size,
            "time_ns": _time_ns,
            "moment": _moment,
            "share": _share,
        }

    def prepare(self) -> None:
        """Compile all templates, so that no first request waits for that. Blocks."""
        for name in self._environment.list_templates(extensions=["html"]):
            self._environment.get_template(name)

    def render(self, name: str, values: Mapping[str, object]) -> str:
        """Return a page or a part of one."""
        # Lone surrogates cannot be encoded: names of other charsets are shown by `one_line`, this is the last resort.
        return self._environment.get_template(name).render(values).encode("utf-8", "replace").decode()


def _show_controls(value: object) -> object:
    """Return a value as a part of one line, with active characters escaped; markup is the page's own."""
    return value if isinstance(value, Markup) else one_line(str(value))


def _lines(text: str) -> Markup:
    """Return a text of several lines."""
    return escape(lines_of(text))


def _matches(line: str, terms: list[str]) -> Markup:
    """Return a line with the words that match in `mark` elements."""
    parts, position = [], 0
    for start, end in find_matches(line, terms):
        parts += [escape(one_line(line[position:start])), Markup("<mark>%s</mark>") % one_line(line[start:end])]
        position = end
    return Markup("").join([*parts, escape(one_line(line[position:]))])


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _size(value: int | None) -> str:
    """Return a number of bytes for people."""
    if value is None:
        return "unknown"
    amount = float(value)
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def _time_ns(value: int | None) -> Markup:
    """Return a time in nanoseconds as a `time` element in UTC, empty for 0."""
    if not value:
        return Markup("")
    try:
        return _moment(datetime.fromtimestamp(value / 1e9, UTC).isoformat(timespec="seconds"))
    except (OverflowError, ValueError, OSError):
        return escape("beyond the calendar")


def _moment(text: str) -> Markup:
    """Return an ISO time in UTC as a `time` element."""
    shown = one_line(text)[:19].replace("T", " ")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(one_line(text), shown, shown)


def _share(part: float, whole: float) -> str:
    """Return a part of a whole in per cent."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
