"""Drawings as SVG text: lines, bars with intervals, histograms, points; standard library only.

Every drawing carries its own style (light and dark by `prefers-color-scheme`), a <title> and a <desc> for readers who
do not see it, and no reference to the network, so it can stand alone as a file or inline in a page. Values that are
not finite are left out, and the description says how many.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from werkmeister.scale import Scale, round_step

WIDTH = 720
_COLOURS = 6
_FONT = 13
_MOST_POINTS = 800
_LANE = 17
_STYLE = """
.wm-chart{--paper:#fff;--ink:#1c2430;--soft:#5a6675;--grid:#e2e6ec;--axis:#9aa5b3;--c0:#0b66c3;--c1:#c8501b;--c2:#12805c;
--c3:#9a3ea8;--c4:#8a6d00;--c5:#51606e;max-width:100%;height:auto;font:13px system-ui,"Segoe UI",Roboto,sans-serif}
@media (prefers-color-scheme:dark){.wm-chart{--paper:#161b22;--ink:#e6ebf2;--soft:#9eabba;--grid:#2b333e;--axis:#5d6a79;
--c0:#6db3ff;--c1:#ff9b6a;--c2:#4fd0a0;--c3:#dc8df0;--c4:#e3c04c;--c5:#a8b6c4}}
.wm-chart text{fill:var(--ink)}.wm-chart .soft{fill:var(--soft)}.wm-chart .head{font-size:15px;font-weight:600}
.wm-chart .grid{stroke:var(--grid)}.wm-chart .axis{stroke:var(--axis)}.wm-chart .paper{fill:var(--paper)}
.wm-chart .whisker{stroke:var(--ink);stroke-width:1.5;fill:none}.wm-chart .halo{stroke:var(--paper);stroke-width:4;
fill:none;opacity:.55}.wm-chart .line{fill:none;stroke-width:2;
stroke-linejoin:round;stroke-linecap:round}.wm-chart .dense{stroke-width:1.2}
.wm-chart .flag{stroke:var(--axis);fill:none}
.wm-chart .num{font-variant-numeric:tabular-nums}
""" + "".join(f".wm-chart .f{i}{{fill:var(--c{i})}}.wm-chart .s{i}{{stroke:var(--c{i})}}" for i in range(_COLOURS))


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: its label, value and, where known, the ends of its interval; bars of one `group` share a colour."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One labelled point with, where known, the ends of the interval of `y`; points of one `group` share a colour."""

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    group: str = ""


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x_label: str, y_label: str, log_y: bool = False
) -> str:
    """Lines over one pair of axes, one for each name in `series` (pairs of x and y, in the order of x).

    A series of more than 800 points is thinned to the lowest and highest y of each stretch, so peaks stay. With
    `log_y`, values that are not positive are left out.
    """
    kept = {name: [p for p in points if _drawable(p, log_y)] for name, points in series.items()}
    left_out = sum(len(points) for points in series.values()) - sum(len(points) for points in kept.values())
    everything = [point for points in kept.values() for point in points]
    if not everything:
        return _empty(title)
    top, legend = _legend([name for name in kept if name or len(kept) > 1])
    y = Scale.over([p[1] for p in everything], start=top + 260, end=top, log=log_y)
    x = Scale.over([p[0] for p in everything], start=_left_margin(y), end=WIDTH - 24, tight=True)
    body = [legend, _grid(x, y, x_label, y_label)]
    for index, points in enumerate(kept.values()):
        colour = index % _COLOURS
        placed = [(x.at(a), y.at(b)) for a, b in _thinned(points)]
        dash = "" if index == 0 else f' stroke-dasharray="{"7 4" if index % 2 else "2 4"}"'
        if len(placed) > 1:
            path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
            dense = " dense" if len(placed) > 300 else ""
            body.append(f'<path class="line{dense} s{colour}" d="{path}"{dash}/>')
        if len(placed) <= 30:
            body += [f'<circle class="f{colour}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in placed]
    ends = {name or y_label: (len(p), _short(p[0][1]), _short(p[-1][1])) for name, p in kept.items() if p}
    told = [f"{name}: {count} points, from {first} to {last}" for name, (count, first, last) in ends.items()]
    return _svg(title, f"{y_label} over {x_label}. " + "; ".join(told), body, top + 260 + 52, left_out)


def bar_chart(
    bars: Sequence[Bar],
    *,
    title: str,
    x_label: str,
    percent: bool = False,
    least: float = 0.0,
    most: float | None = None,
) -> str:
    """Horizontal bars, from top to bottom in the given order, with a whisker where a bar has an interval.

    Bars that follow one another with the same label stand together under one label. `percent` shows shares (0..1) as
    per cent, on an axis up to 100 %. `least` and `most` are where the axis must reach at least.
    """
    shown = [bar for bar in bars if math.isfinite(bar.value)]
    if not shown:
        return _empty(title)
    groups = list(dict.fromkeys(bar.group for bar in shown))
    top, legend = _legend(groups if len(groups) > 1 else [])
    words: Callable[[float], str] = _percent if percent else _short
    ends = [end for bar in shown for end in (bar.value, bar.low, bar.high) if end is not None and math.isfinite(end)]
    left = 24 + min(250, max(_text_width(_cut(bar.label)) for bar in shown))
    values = [_bar_words(bar, words) for bar in shown]
    right = WIDTH - 20 - max(_text_width(text) for text in values)
    reach = [least, *ends, *([1.0] if percent and most is None else []), *([most] if most is not None else [])]
    x = Scale.over(reach, start=left, end=right - 14, tight=percent)
    body, y, previous = [], top + 4.0, None
    for bar, text in zip(shown, values, strict=True):
        if previous is not None:
            y += 2 if bar.label == previous else 9
        body.append(_bar(bar, text, x, y, groups.index(bar.group) % _COLOURS, named=bar.label != previous))
        previous, y = bar.label, y + 20
    bottom = y + 6
    ticks = x.ticks(5)
    marks = [_vertical(x, t, told, top, bottom) for t, told in zip(ticks, _tick_words(ticks, words), strict=True)]
    axis = f'<line class="axis" x1="{x.at(0):.1f}" x2="{x.at(0):.1f}" y1="{top}" y2="{bottom:.1f}"/>'
    name = _centred((left + right) / 2, bottom + 38, x_label)
    told = "; ".join(f"{bar.label} {bar.group}".strip() + f": {text}" for bar, text in zip(shown, values, strict=True))
    return _svg(title, f"{x_label}. {told}", [legend, *marks, *body, axis, name], bottom + 50, len(bars) - len(shown))


def histogram(
    values: Mapping[str, Iterable[float]], *, title: str, x_label: str, y_label: str = "examples", bins: int = 40
) -> str:
    """How often values fall into equal stretches (about `bins` of them, of round width), one colour for each name.

    Columns of several names stand on one another, so the height is the count of all.
    """
    kept = {name: [v for v in many if math.isfinite(v)] for name, many in values.items()}
    everything = [v for many in kept.values() for v in many]
    if not everything:
        return _empty(title)
    step = round_step((max(everything) - min(everything)) / bins) if max(everything) > min(everything) else 1.0
    if all(float(v).is_integer() for v in everything):
        step = float(math.ceil(step))
    first = math.floor(min(everything) / step)
    columns = math.floor(max(everything) / step) - first + 1
    counts = {name: [0] * columns for name in kept}
    for name, many in kept.items():
        for v in many:
            counts[name][math.floor(v / step) - first] += 1
    top, legend = _legend([name for name in kept if name or len(kept) > 1])
    heights = [sum(c[i] for c in counts.values()) for i in range(columns)]
    y = Scale.over([0, *heights], start=top + 220, end=top, whole=True)
    x = Scale.over([first * step, (first + columns) * step], start=_left_margin(y), end=WIDTH - 24, tight=True)
    body = [legend, _grid(x, y, x_label, y_label)]
    for i in range(columns):
        start, end, under = x.at((first + i) * step), x.at((first + i + 1) * step), 0
        for index, (name, column) in enumerate(counts.items()):
            if column[i]:
                high, low = y.at(under + column[i]), y.at(under)
                tip = f"{name} {_short((first + i) * step)} to {_short((first + i + 1) * step)}: {column[i]}".strip()
                size = f'width="{max(0.5, end - start - 1):.1f}" height="{low - high:.1f}"'
                place = f'class="f{index % _COLOURS}" x="{start + 0.5:.1f}" y="{high:.1f}"'
                body.append(f"<rect {place} {size}><title>{escape(tip)}</title></rect>")
                under += column[i]
    ends = {name or y_label: (len(v), _short(min(v)), _short(max(v))) for name, v in kept.items() if v}
    told = "; ".join(f"{name}: {count}, from {least} to {most}" for name, (count, least, most) in ends.items())
    return _svg(title, f"{y_label} by {x_label}. {told}", body, top + 220 + 52)


def point_chart(points: Sequence[Point], *, title: str, x_label: str, y_label: str, percent: bool = False) -> str:
    """Labelled points with whiskers; `percent` shows y as per cent.

    The axes hold what is drawn and need not begin at 0: a point has no length that would mislead. x is logarithmic
    where every x is positive, and then says so.
    """
    kept = [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)]
    if not kept:
        return _empty(title)
    groups = list(dict.fromkeys(p.group for p in kept))
    lane, legend = _legend(groups if len(groups) > 1 else [])
    ends = [end for p in kept for end in (p.y, p.low, p.high) if end is not None and math.isfinite(end)]
    words: Callable[[float], str] = _percent if percent else _short
    log = min(p.x for p in kept) > 0
    y = Scale.over(ends, start=260, end=0)
    if percent and min(ends) >= 0 and max(ends) <= 1:
        y = replace(y, low=max(0.0, y.low), high=min(1.0, y.high))
    left, share = _left_margin(y, words), Scale.over([p.x for p in kept], start=0, end=1, log=log)
    # A label stands to the right of its point and must end on the paper.
    room = {p: WIDTH - 24 - left - _text_width(_cut(p.label)) for p in kept if share.at(p.x) > 0}
    right = min([WIDTH - 40.0, *(left + most / share.at(p.x) for p, most in room.items())])
    x = replace(share, start=left, end=right)
    flags = _lanes({(p.label, x.at(p.x)) for p in kept})
    top = lane + _LANE * (1 + max(flags.values()))
    y = replace(y, start=top + 260, end=top)
    body = [legend, _grid(x, y, f"{x_label}, logarithmic" if log else x_label, y_label, words)]
    for (label, a), number in flags.items():
        under = min(y.at(p.y) for p in kept if (p.label, x.at(p.x)) == (label, a))
        text_y = top - _LANE * number - 8
        body.append(f'<path class="flag" d="M{a:.1f} {text_y - 9:.1f}V{under:.1f}"/>')
        body.append(f'<text x="{a + 5:.1f}" y="{text_y:.1f}">{escape(_cut(label))}</text>')
    for p in kept:
        a, b, colour = x.at(p.x), y.at(p.y), groups.index(p.group) % _COLOURS
        if p.low is not None and p.high is not None:
            body.append(f'<path class="whisker s{colour}" d="M{a:.1f} {y.at(p.low):.1f}V{y.at(p.high):.1f}"/>')
        body.append(f'<circle class="f{colour}" cx="{a:.1f}" cy="{b:.1f}" r="4.5"/>')
    told = "; ".join(f"{p.label} {p.group}".strip() + f": {_short(p.x)}, {words(p.y)}" for p in kept)
    return _svg(title, f"{y_label} over {x_label}. {told}", body, top + 260 + 52, len(points) - len(kept))


def _lanes(flags: Iterable[tuple[str, float]]) -> dict[tuple[str, float], int]:
    """A lane for the label to the right of each pole at pixel x, so that no label meets another one or a pole.

    A pole goes down from its label past all lower lanes: whoever has a pole under a label must hang below it.
    """
    placed: dict[tuple[str, float], int] = {}
    for label, a in sorted(flags, key=lambda flag: (-flag[1], flag[0])):
        end = a + _text_width(_cut(label)) + 12
        placed[label, a] = 1 + max((lane for (_, other), lane in placed.items() if other < end), default=-1)
    return placed


def _drawable(point: tuple[float, float], log_y: bool) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1]) and (point[1] > 0 or not log_y)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(len(points) / (_MOST_POINTS / 2))
    kept = []
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        low, high = min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])
        kept += [points[i] for i in sorted({low, high})]
    return kept


def _svg(title: str, description: str, body: Iterable[str], height: float, left_out: int = 0) -> str:
    if left_out:
        description += f" {left_out} values that are not finite or cannot be drawn were left out."
    inside = "\n".join(part for part in body if part)
    # Several drawings share one page: the ids that name title and description must differ.
    mark = hashlib.sha256((title + description + inside).encode()).hexdigest()[:10]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wm-chart" role="img" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" aria-labelledby="t{mark} d{mark}">\n'
        f'<title id="t{mark}">{escape(title)}</title>\n<desc id="d{mark}">{escape(description)}</desc>\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height:.0f}" rx="8"/>\n'
        f'<text class="head" x="16" y="26">{escape(_cut(title, 80))}</text>\n{inside}\n</svg>\n'
    )


def _empty(title: str) -> str:
    text = '<text class="soft" x="16" y="58">There are no values to draw.</text>'
    return _svg(title, "There are no values to draw.", [text], 80)


def _legend(names: Sequence[str]) -> tuple[int, str]:
    """Where the plot may begin, and the legend above it."""
    if not names:
        return 46, ""
    parts, x, y = [], 16.0, 50
    for index, name in enumerate(names):
        width = _text_width(_cut(name)) + 34
        if x + width > WIDTH - 16 and x > 16:
            x, y = 16.0, y + 20
        parts.append(f'<rect class="f{index % _COLOURS}" x="{x:.1f}" y="{y - 10}" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18:.1f}" y="{y}">{escape(_cut(name))}</text>')
        x += width
    return y + 20, "\n".join(parts)


def _left_margin(y: Scale, words: Callable[[float], str] | None = None) -> float:
    return 48 + max(_text_width(told) for told in _tick_words(y.ticks(), words or _short))


def _grid(x: Scale, y: Scale, x_label: str, y_label: str, y_words: Callable[[float], str] | None = None) -> str:
    show = y_words or _short
    parts = []
    for tick, told in zip(y.ticks(), _tick_words(y.ticks(), show), strict=True):
        at = y.at(tick)
        parts.append(f'<line class="grid" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="soft num" x="{x.start - 8:.1f}" y="{at + 4:.1f}" text-anchor="end">{told}</text>')
    across = zip(x.ticks(7), _tick_words(x.ticks(7), _short), strict=True)
    parts += [_vertical(x, tick, told, y.end, y.start, line=False) for tick, told in across]
    middle_x, middle_y = (x.start + x.end) / 2, (y.start + y.end) / 2
    parts.append(f'<line class="axis" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{y.start}" y2="{y.start}"/>')
    parts.append(_centred(middle_x, y.start + 40, x_label))
    parts.append(
        f'<text class="soft" transform="translate(24 {middle_y:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return "\n".join(parts)


def _centred(x: float, y: float, text: str) -> str:
    return f'<text class="soft" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'


def _tick_words(ticks: Sequence[float], words: Callable[[float], str]) -> list[str]:
    """The ticks in words; more digits where neighbours would read the same."""
    told = [words(tick) for tick in ticks]
    return told if len(set(told)) == len(told) else [f"{tick:.7g}" for tick in ticks]


def _vertical(x: Scale, tick: float, told: str, top: float, bottom: float, line: bool = True) -> str:
    at = x.at(tick)
    rule = f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>' if line else ""
    return f'{rule}<text class="soft num" x="{at:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{told}</text>'


def _bar(bar: Bar, text: str, x: Scale, y: float, colour: int, named: bool) -> str:
    zero, end = x.at(0), x.at(bar.value)
    parts = [
        f'<rect class="f{colour}" x="{min(zero, end):.1f}" y="{y:.1f}" width="{max(1.0, abs(end - zero)):.1f}" '
        f'height="18" rx="2"><title>{escape(f"{bar.label} {bar.group}".strip())}: {escape(text)}</title></rect>'
    ]
    if bar.low is not None and bar.high is not None and math.isfinite(bar.low) and math.isfinite(bar.high):
        a, b, middle = x.at(bar.low), x.at(bar.high), y + 9
        path = f'd="M{a:.1f} {middle:.1f}H{b:.1f}M{a:.1f} {y + 4:.1f}v10M{b:.1f} {y + 4:.1f}v10"'
        parts.append(f'<path class="halo" {path}/><path class="whisker" {path}/>')
    if named:
        parts.append(f'<text x="16" y="{y + 14:.1f}">{escape(_cut(bar.label))}</text>')
    parts.append(f'<text class="num" x="{WIDTH - 16}" y="{y + 14:.1f}" text-anchor="end">{escape(text)}</text>')
    return "".join(parts)


def _bar_words(bar: Bar, words: Callable[[float], str]) -> str:
    if bar.low is None or bar.high is None or not (math.isfinite(bar.low) and math.isfinite(bar.high)):
        return words(bar.value)
    return f"{words(bar.value)} ({words(bar.low).removesuffix(' %')}–{words(bar.high).removesuffix(' %')})"


def _text_width(text: str) -> float:
    # No font is at hand to measure with: the mean advance of a sans-serif letter is a little over half its size.
    return len(text) * _FONT * 0.56


def _cut(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _percent(value: float) -> str:
    return f"{value * 100:.1f}".removesuffix(".0") + " %"


def _short(value: float) -> str:
    """A number in few characters: 0.25, 1,500, 12k, 3.4M, 2e-05."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001:
        return f"{value:.2g}"
    for limit, scale, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= limit:
            return f"{value / scale:.3g}{unit}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"
