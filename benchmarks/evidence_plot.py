"""The plot of `benchmarks.evidence` as SVG: a panel a set, a line a system, its interval as a band."""

import math
from collections.abc import Sequence
from html import escape

from benchmarks.evidence_figures import BY_TEXT, BY_TURN, Figures

_PANEL_WIDTH, _PANEL_HEIGHT = 400, 300
_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 34, 14, 44
_LEGEND_HEIGHT = 30
_LEGEND_STEP = 110
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# Distinct also for readers who see few colours (Okabe and Ito 2008), and by their dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4", "4 4")


def draw_plot(panels: Sequence[Figures]) -> str:
    """Return the SVG; a panel is by turn where ctxfs and its baselines are, and by text for contexts of other systems."""
    systems = list(dict.fromkeys(system for figures in panels for system in figures.systems(BY_TEXT)))
    width = max(_PANEL_WIDTH * max(len(panels), 1), _LEGEND_STEP * len(systems) + _LEFT)
    height = _PANEL_HEIGHT + _LEGEND_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11" fill="#222">',
        "<title>Share of questions whose whole evidence is in the context, by its budget in tokens</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, figures in enumerate(panels):
        parts.append(f'<g transform="translate({index * _PANEL_WIDTH} 0)">')
        parts += _draw_panel(figures, systems)
        parts.append("</g>")
    parts += _draw_legend(systems)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_panel(figures: Figures, systems: Sequence[str]) -> list[str]:
    budgets = figures.budgets
    right, bottom = _PANEL_WIDTH - _RIGHT, _PANEL_HEIGHT - _BOTTOM
    title = f"{figures.name}, {figures.questions} questions"
    parts = [f'<text x="{_LEFT}" y="20" font-size="13" font-weight="bold">{escape(title)}</text>']
    for tick in _TICKS:
        y = _y_of(tick)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.1f}</text>')
    for budget in budgets:
        x = _x_of(budget, budgets)
        parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#222"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{budget:,}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{bottom + 32}" text-anchor="middle">tokens of the context</text>')
    for system in reversed(systems):  # the first one is on top
        way = BY_TURN if system in figures.systems(BY_TURN) else BY_TEXT
        parts += _draw_line(figures, way, system, systems.index(system))
    return parts


def _draw_line(figures: Figures, way: str, system: str, number: int) -> list[str]:
    budgets = figures.budgets
    points = [
        (_x_of(budget, budgets), share)
        for budget in budgets
        if (share := figures.shares.get((way, system, budget))) is not None
    ]
    if not points:
        return []
    colour, dash = _style_of(number)
    band = [(x, share.high) for x, share in points] + [(x, share.low) for x, share in reversed(points)]
    outline = " ".join(f"{x:.1f},{_y_of(value):.1f}" for x, value in band)
    line = " ".join(f"{x:.1f},{_y_of(share.value):.1f}" for x, share in points)
    return [
        f'<polygon points="{outline}" fill="{colour}" fill-opacity=".12"/>',
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>',
        *(f'<circle cx="{x:.1f}" cy="{_y_of(share.value):.1f}" r="2.5" fill="{colour}"/>' for x, share in points),
    ]


def _draw_legend(systems: Sequence[str]) -> list[str]:
    parts = []
    y = _PANEL_HEIGHT + _LEGEND_HEIGHT / 2
    for number, system in enumerate(systems):
        colour, dash = _style_of(number)
        x = _LEFT + number * _LEGEND_STEP
        parts.append(
            f'<line x1="{x}" y1="{y}" x2="{x + 26}" y2="{y}" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        parts.append(f'<text x="{x + 32}" y="{y + 4}">{escape(system)}</text>')
    return parts


def _style_of(number: int) -> tuple[str, str]:
    return _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]


def _x_of(budget: int, budgets: Sequence[int]) -> float:
    low, high = math.log(budgets[0]), math.log(budgets[-1])
    width = _PANEL_WIDTH - _LEFT - _RIGHT - 20
    return _LEFT + 10 + width * ((math.log(budget) - low) / (high - low) if high > low else 0.5)


def _y_of(share: float) -> float:
    return _TOP + (_PANEL_HEIGHT - _TOP - _BOTTOM) * (1 - min(max(share, 0.0), 1.0))
