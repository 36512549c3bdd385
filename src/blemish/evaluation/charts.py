"""Charts as SVG text, for pages that open anywhere without a script or a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOURS", "confusion", "histogram", "lines", "standalone"]

# Okabe and Ito (2008), told apart by colour-blind eyes
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b5b5b", "#a08a00")
WIDTH, HEIGHT = 300, 230
LEFT, TOP, RIGHT, BOTTOM = 54, 26, 10, 36
BINS = 40


def lines(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str, x_end: float = 1.0
) -> str:
    """Curves by name over 0..x_end and 0..1, drawn in the order of `COLOURS`; names appear when pointed at."""
    drawn = []
    for number, (name, points) in enumerate(series.items()):
        path = " ".join(f"{_x(x / x_end):.1f},{_y(y):.1f}" for x, y in points)
        colour = COLOURS[number % len(COLOURS)]
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"><title>{escape(name)}</title></polyline>'
        )
    return _frame(
        title,
        "".join(drawn),
        labels=(x_label, y_label),
        x_ticks=_ticks(x_end),
        y_ticks=[0, 0.25, 0.5, 0.75, 1],
        y_end=1.0,
    )


def histogram(
    title: str, series: Mapping[str, Sequence[float]], *, x_label: str, colours: Sequence[str] = COLOURS
) -> str:
    """Groups of scores as shares of each group, in `BINS` bins from the lowest score of all to the highest."""
    values = [np.asarray(group, float) for group in series.values()]
    everything = np.concatenate(values)
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, BINS + 1)
    shares = [np.histogram(group, edges)[0] / max(len(group), 1) for group in values]
    top = max(float(share.max()) for share in shares) or 1.0
    drawn = []
    for number, (name, share) in enumerate(zip(series, shares, strict=True)):
        points = [(place / BINS, value) for place, value in enumerate(share)]
        path = [f"{_x(0):.1f},{_y(0):.1f}"]
        for x, value in points:
            path += [f"{_x(x):.1f},{_y(value / top):.1f}", f"{_x(x + 1 / BINS):.1f},{_y(value / top):.1f}"]
        path.append(f"{_x(1):.1f},{_y(0):.1f}")
        colour = colours[number % len(colours)]
        drawn.append(
            f'<polygon points="{" ".join(path)}" fill="{colour}" fill-opacity="0.35" stroke="{colour}"><title>'
            f"{escape(name)}: {len(values[number])} images</title></polygon>"
        )
    ticks = [low + (high - low) * part for part in (0, 0.5, 1)]
    labels = {part: f"{value:.3g}" for part, value in zip((0, 0.5, 1), ticks, strict=True)}
    return _frame(
        title,
        "".join(drawn),
        labels=(x_label, "share of images"),
        x_ticks=labels,
        y_ticks=[0, top / 2, top],
        y_end=top,
    )


def confusion(title: str, names: Sequence[str], counts: NDArray[np.int64], *, of: str = "") -> str:
    """Images [T, T] by true type (rows) and the type they were given (columns); the darker, the larger a part of its row. `of`
    says of what data and model."""
    cell, label, head = 46, 120, 118
    side = cell * len(names)
    width = max(label + side, 360) + 12  # room for the words above
    parts = [
        f'<svg viewBox="0 0 {width} {head + side + 12}" style="max-width:{2 * width}px" role="img" '
        f'aria-label="{escape(title)}">',
        f'<text class="t" x="8" y="16">{escape(title)}</text>',
        f'<text class="n" x="8" y="32">{escape(of)}</text>',
        '<text class="n" x="8" y="46">rows: true type; columns: the highest score</text>',
    ]
    for number, name in enumerate(names):
        x, y = label + cell * number, head + cell * number
        place = f"translate({x + cell / 2:.0f} {head - 8}) rotate(-35)"
        parts.append(f'<text class="n" transform="{place}">{escape(name)}</text>')
        parts.append(
            f'<text class="n" x="{label - 8}" y="{y + cell / 2 + 3:.0f}" text-anchor="end">{escape(name)}</text>'
        )
        total = max(int(counts[number].sum()), 1)
        for column, count in enumerate(counts[number].tolist()):
            share = count / total
            ink = "#ffffff" if share > 0.6 else "#1d2430"
            left = label + cell * column
            parts.append(
                f'<rect x="{left}" y="{y}" width="{cell}" height="{cell}" fill="{COLOURS[0]}" fill-opacity="{share:.2f}" '
                f'stroke="#c9d0d9"/><text class="n" x="{left + cell / 2:.0f}" y="{y + cell / 2 + 3:.0f}" text-anchor="middle" '
                f'style="fill:{ink}">{count}</text>'
            )
    return "".join([*parts, "</svg>"])


def standalone(chart: str) -> str:
    """A chart as a file of its own, on white."""
    style = "svg{background:#fff}.t{font:600 12px sans-serif}.n{font:10px sans-serif;fill:#5a6270}.g{stroke:#e6e9ee}"
    begin, rest = chart.split(">", 1)
    return f'{begin} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


def _frame(
    title: str,
    inside: str,
    *,
    labels: tuple[str, str],
    x_ticks: Mapping[float, str],
    y_ticks: Sequence[float],
    y_end: float,
) -> str:
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text class="t" x="{LEFT}" y="15">{escape(title)}</text>',
    ]
    for share, words in x_ticks.items():
        x = _x(share)
        parts.append(f'<line class="g" x1="{x:.1f}" y1="{_y(0):.1f}" x2="{x:.1f}" y2="{_y(1):.1f}"/>')
        anchor = "end" if share == 1 else "middle"
        parts.append(f'<text class="n" x="{x:.1f}" y="{_y(0) + 13:.1f}" text-anchor="{anchor}">{words}</text>')
    for value in y_ticks:
        y = _y(value / y_end)
        parts.append(f'<line class="g" x1="{_x(0):.1f}" y1="{y:.1f}" x2="{_x(1):.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="n" x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{value:.2g}</text>')
    middle = (_y(0) + _y(1)) / 2
    parts += [
        inside,
        f'<text class="n" x="{(_x(0) + _x(1)) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(labels[0])}</text>',
        f'<text class="n" transform="translate(11 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(labels[1])}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _ticks(end: float) -> dict[float, str]:
    return {part: f"{part * end:.3g}" for part in (0, 0.25, 0.5, 0.75, 1)}


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
