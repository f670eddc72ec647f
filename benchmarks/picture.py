"""The picture of the four policies: messages, depth, invocations and duration, each over the same time.

A plain SVG on a paper of its own, so that it can be read on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Any
from xml.sax.saxutils import escape

Sample = dict[str, float]
_WIDTH, _HEIGHT = 208, 104
_LEFT, _TOP, _GAP_X, _GAP_Y = 108, 92, 14, 30
_TITLE, _UNIT = 24, 12
"""Characters on a line of a column's title, and of a unit in the margin."""
_WINDOW = 2.0
"""Seconds over which a rate is taken."""
_STYLE = """
    .paper { fill: #ffffff; stroke: #d0d7de; }
    .outage { fill: #ffebe9; }
    .axis { fill: none; stroke: #8c959f; }
    .title { font: 600 14px system-ui, sans-serif; fill: #1f2328; text-anchor: middle; }
    .name { font: 600 13px system-ui, sans-serif; fill: #1f2328; text-anchor: end; }
    .unit, .mark { font: 11px system-ui, sans-serif; fill: #57606a; }
    .unit { text-anchor: end; }
    .middle { text-anchor: middle; }
    .blue { fill: none; stroke: #0969da; stroke-width: 1.8; }
    .green { fill: none; stroke: #1a7f37; stroke-width: 1.8; }
    .red { fill: none; stroke: #cf222e; stroke-width: 1.8; }
    .gold { fill: none; stroke: #9a6700; stroke-width: 1.8; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of a chart: its colour, and its value at a sample, given all samples."""

    colour: str
    value: Callable[[list[Sample], int], float]


def _level(name: str) -> Callable[[list[Sample], int], float]:
    return lambda samples, at: samples[at][name]


def _rate(name: str, factor: float = 1.0) -> Callable[[list[Sample], int], float]:
    """How fast it grows, each second, over the last two seconds."""

    def rate(samples: list[Sample], at: int) -> float:
        now = samples[at]
        then = next(one for one in samples if one["at"] >= now["at"] - _WINDOW)
        passed = now["at"] - then["at"]
        return factor * (now[name] - then[name]) / passed if passed > 0 else 0.0

    return rate


_CHARTS: tuple[tuple[str, str, tuple[_Line, ...]], ...] = (
    (
        "messages",
        "in all",
        (
            _Line(colour="green", value=_level("served")),
            _Line(colour="blue", value=_level("paid")),
            _Line(colour="red", value=_level("dead")),
        ),
    ),
    (
        "depth",
        "messages",
        (
            _Line(colour="blue", value=_level("waiting")),
            _Line(colour="gold", value=_level("parked")),
        ),
    ),
    ("invocations", "each second", (_Line(colour="blue", value=_rate("invocations")),)),
    ("duration", "handler ms each second", (_Line(colour="blue", value=_rate("seconds", 1000.0)),)),
)


def picture(document: dict[str, Any]) -> str:
    """The SVG for what `policies.py` kept."""
    results, plan = document["results"], document["plan"]
    end = max(one["samples"][-1]["at"] for one in results)
    width = _LEFT + len(results) * (_WIDTH + _GAP_X) + 10
    height = _TOP + len(_CHARTS) * (_HEIGHT + _GAP_Y) + 16
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">',
        '  <title id="title">Four policies for one outage</title>',
        f'  <desc id="desc">{escape(_described(results))}</desc>',
        f"  <style>{_STYLE}  </style>",
        f'  <rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for column, one in enumerate(results):
        for number, part in enumerate(wrap(one["title"], _TITLE)):
            middle = _x(column) + _WIDTH / 2
            lines.append(f'  <text class="title" x="{middle:g}" y="{26 + 17 * number}">{escape(part)}</text>')
    lines.append(_legend(plan))
    for row, (name, unit, drawn) in enumerate(_CHARTS):
        lines += _chart_row(row, name, unit, drawn, results=results, plan=plan, end=end)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _chart_row(
    row: int, name: str, unit: str, drawn: tuple[_Line, ...], *, results: list[Any], plan: dict[str, float], end: float
) -> Iterator[str]:
    """The charts of one measure, all on one scale."""
    series = [
        [[line.value(one["samples"], at) for at in range(len(one["samples"]))] for line in drawn] for one in results
    ]
    top = _round_up(max(value for lines in series for values in lines for value in values))
    y = _TOP + row * (_HEIGHT + _GAP_Y)
    yield f'  <text class="name" x="{_LEFT - 12}" y="{y + 44}">{name}</text>'
    for number, part in enumerate(wrap(unit, _UNIT)):
        yield f'  <text class="unit" x="{_LEFT - 12}" y="{y + 60 + 13 * number}">{part}</text>'
    for column, (one, lines) in enumerate(zip(results, series, strict=True)):
        yield _frame(column, y, plan, end)
        yield f'  <text class="mark" x="{_x(column) + 4}" y="{y + 12}">{top:,g}</text>'
        yield f'  <text class="mark" x="{_x(column)}" y="{y + _HEIGHT + 13}">0 s</text>'
        yield f'  <text class="mark unit" x="{_x(column) + _WIDTH}" y="{y + _HEIGHT + 13}">{end:.0f} s</text>'
        for line, values in zip(drawn, lines, strict=True):
            points = [
                (_x(column) + _WIDTH * sample["at"] / end, y + _HEIGHT * (1 - value / top))
                for sample, value in zip(one["samples"], values, strict=True)
            ]
            shown = " ".join(f"{x:.1f},{height:.1f}" for x, height in _thinned(points))
            yield f'  <polyline class="{line.colour}" points="{shown}"/>'


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Every other point, and of a level stretch only its ends: more than that nobody can see."""
    kept = points[::2] + points[-1:] * (len(points) % 2 == 0)
    around = zip([None, *kept[:-1]], kept, [*kept[1:], None], strict=True)
    return [
        point
        for before, point, after in around
        if before is None or after is None or not round(before[1], 1) == round(point[1], 1) == round(after[1], 1)
    ]


def _frame(column: int, y: float, plan: dict[str, float], end: float) -> str:
    x = _x(column)
    down, length = _WIDTH * plan["down_at"] / end, _WIDTH * plan["down_for"] / end
    return (
        f'  <rect class="outage" x="{x + down:.1f}" y="{y}" width="{length:.1f}" height="{_HEIGHT}"/>\n'
        f'  <path class="axis" d="M{x} {y} V{y + _HEIGHT} H{x + _WIDTH}"/>'
    )


def _legend(plan: dict[str, float]) -> str:
    parts, x = [], float(_LEFT)
    for colour, text in (("blue", "paid; waiting"), ("green", "coffee served"), ("red", "dead"), ("gold", "parked")):
        parts.append(
            f'  <path class="{colour}" d="M{x:g} 70 h22"/><text class="mark" x="{x + 28:g}" y="74">{text}</text>'
        )
        x += 60 + 6.2 * len(text)
    parts.append(f'  <rect class="outage" x="{x:g}" y="64" width="22" height="12"/>')
    parts.append(f'  <text class="mark" x="{x + 28:g}" y="74">payments are down, {plan["down_for"]:g} s</text>')
    return "\n".join(parts)


def _described(results: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{one['title']}: {one['paid']:g} paid, {one['dead']:g} dead, {one['wasted']:g} calls wasted, nothing waits "
        f"{one['caught_up']:.0f} s after the heal"
        for one in results
    )


def _x(column: int) -> int:
    return _LEFT + column * (_WIDTH + _GAP_X)


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 with noughts."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if factor * step >= value:
                return factor * step
        step *= 10
