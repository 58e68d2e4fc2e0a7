import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.drawing import Bar, Point, bar_chart, histogram, line_chart, point_chart

SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.integers(-(10**9), 10**9)


def parsed(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing)


def texts(drawing: str) -> list[str]:
    return [element.text or "" for element in parsed(drawing).iter(f"{SVG}text")]


def coordinates(drawing: str) -> list[float]:
    """Every x and y of the body, paths included."""
    found = []
    for element in parsed(drawing).iter():
        found += [float(element.get(key)) for key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy") if element.get(key)]
        found += [float(number) for number in re.findall(r"-?[\d.]+", element.get("d") or "")]
    return found


@given(
    st.dictionaries(st.text("ab<&", max_size=5), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20), max_size=3),
    st.booleans(),
)
def test_any_series_makes_a_well_formed_drawing_with_finite_places(series, log_y):
    drawing = line_chart(series, title="Loss", x_label="step", y_label="loss", log_y=log_y)
    assert all(math.isfinite(number) and -20 <= number <= 1100 for number in coordinates(drawing))


@given(st.lists(st.tuples(st.text(max_size=50), NUMBERS, NUMBERS), max_size=12), st.booleans())
def test_any_bars_and_points_make_a_well_formed_drawing(entries, percent):
    entries = [(re.sub(r"[^\w <&\"]", "", label), value, end) for label, value, end in entries]
    bars = [Bar(label=a, value=v, low=min(v, e), high=max(v, e), group=a[:1]) for a, v, e in entries]
    points = [Point(label=a, x=v, y=e, group=a[:1]) for a, v, e in entries]
    parsed(bar_chart(bars, title="t", x_label="x", percent=percent))
    parsed(point_chart(points, title="t", x_label="x", y_label="y", percent=percent))
    parsed(histogram({"a": [v for _, v, _ in entries]}, title="t", x_label="x"))


def test_what_a_person_wrote_is_escaped_everywhere():
    wild = '<script>"x"&</script>'
    for drawing in (
        line_chart({wild: [(0, 1), (1, 2)]}, title=wild, x_label=wild, y_label=wild),
        bar_chart([Bar(label=wild, value=1, group=wild), Bar(label="b", value=2)], title=wild, x_label=wild),
        histogram({wild: [1, 2, 3]}, title=wild, x_label=wild),
        point_chart([Point(label=wild, x=1, y=2, group=wild)], title=wild, x_label=wild, y_label=wild),
    ):
        assert "<script" not in drawing
        assert parsed(drawing).find(f"{SVG}title").text == wild


def test_a_drawing_names_itself_for_those_who_do_not_see_it_and_asks_the_network_for_nothing():
    drawing = line_chart({"train": [(0, 3.0), (10, 0.5)]}, title="Loss", x_label="step", y_label="loss")
    root = parsed(drawing)
    ids = {element.get("id") for element in root.iter()} - {None}
    assert root.get("role") == "img" and set(root.get("aria-labelledby").split()) == ids
    assert root.find(f"{SVG}desc").text == "loss over step. train: 2 points, from 3 to 0.5"
    assert "prefers-color-scheme:dark" in drawing
    assert "url(" not in drawing and drawing.count("http") == 1


def test_two_drawings_on_one_page_do_not_share_ids():
    a, b = (line_chart({"": [(0, y), (1, 2)]}, title="Loss", x_label="x", y_label="y") for y in (1, 3))
    assert parsed(a).get("aria-labelledby") != parsed(b).get("aria-labelledby")


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([0, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1"]), ([0, 4700], ["0", "1,000", "2,000", "3,000", "4,000", "5,000"])],
)
def test_axes_have_round_ticks(values, ticks):
    drawing = line_chart({"": list(enumerate(values))}, title="", x_label="", y_label="")
    shown = texts(drawing)
    assert [t for t in ticks if t in shown] == ticks


def test_a_log_axis_puts_equal_ratios_at_equal_distances():
    drawing = line_chart({"": [(0, 100), (1, 10), (2, 1)]}, title="", x_label="", y_label="", log_y=True)
    first, second, third = (float(c.get("cy")) for c in parsed(drawing).iter(f"{SVG}circle"))
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert {"1", "10", "100"} <= set(texts(drawing))


def test_close_values_get_ticks_that_differ():
    drawing = line_chart({"": [(0, 10_000), (1, 10_004)]}, title="", x_label="", y_label="")
    ends = [t.text for t in parsed(drawing).iter(f"{SVG}text") if t.get("text-anchor") == "end"]
    assert len(ends) >= 4 and len(set(ends)) == len(ends)


def test_bars_are_as_long_as_their_values_and_whiskers_stand_at_the_ends_of_the_interval():
    bars = [Bar(label="base", value=0.25, low=0.2, high=0.3), Bar(label="adapter", value=0.75, low=0.7, high=0.9)]
    root = parsed(bar_chart(bars, title="Score", x_label="exact", percent=True))
    small, large = (float(r.get("width")) for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None)
    assert large == pytest.approx(3 * small, rel=0.01)
    whiskers = [p.get("d") for p in root.iter(f"{SVG}path") if p.get("class") == "whisker"]
    start, end = (float(x) for x in re.match(r"M([\d.]+) [\d.]+H([\d.]+)", whiskers[1]).groups())
    assert end - start == pytest.approx(large * 0.2 / 0.75, rel=0.02)
    assert "75 % (70–90)" in [t.text for t in root.iter(f"{SVG}text")]


def test_groups_have_a_legend_and_bars_of_one_label_are_named_once():
    bars = [Bar(label=a, value=v, group=g) for a in ("base", "adapter") for g, v in (("old", 1), ("new", 2))]
    shown = texts(bar_chart(bars, title="t", x_label="x"))
    assert [shown.count(word) for word in ("base", "adapter", "old", "new")] == [1, 1, 1, 1]


def test_a_histogram_counts_every_value_once():
    root = parsed(histogram({"a": [1, 1, 2, 9], "b": [9]}, title="t", x_label="tokens"))
    counted = [int(t.text.rpartition(": ")[2]) for t in root.iter(f"{SVG}title") if ": " in (t.text or "")]
    assert sum(counted) == 5


def test_long_series_are_thinned_and_keep_their_peaks():
    points = [(i, 1.0) for i in range(50_000)]
    points[31_415] = (31_415, 9.0)
    drawing = line_chart({"": points}, title="t", x_label="x", y_label="y")
    path = next(p.get("d") for p in parsed(drawing).iter(f"{SVG}path"))
    heights = [float(pair.split()[1]) for pair in path[1:].split("L")]
    assert len(heights) < 1000
    assert min(heights) < max(heights) - 150


def test_values_that_cannot_be_drawn_are_left_out_and_counted():
    drawing = line_chart({"": [(0, 1), (1, math.nan), (2, 0), (3, 2)]}, title="t", x_label="x", y_label="y", log_y=True)
    assert "2 values that are not finite or cannot be drawn were left out" in drawing
    assert "There are no values to draw." in texts(line_chart({}, title="t", x_label="x", y_label="y"))


@given(
    st.lists(
        st.tuples(st.text("abcW_", min_size=1, max_size=20), st.floats(0.5, 5000), st.floats(0, 1)),
        min_size=1,
        max_size=10,
    )
)
def test_no_label_of_a_point_meets_another_one_or_a_pole_or_leaves_the_paper(entries):
    points = [Point(label=label, x=x, y=y, low=y * 0.9, high=min(1.0, y * 1.1)) for label, x, y in entries]
    root = parsed(point_chart(points, title="t", x_label="size", y_label="score", percent=True))
    poles = [
        tuple(map(float, re.match(r"M([\d.]+) ([\d.]+)V([\d.]+)", path.get("d")).groups()))
        for path in root.iter(f"{SVG}path")
        if path.get("class") == "flag"
    ]
    told = {label for label, _, _ in entries}
    labels = [
        (float(text.get("x")), float(text.get("y")), len(text.text) * 7)
        for text in root.iter(f"{SVG}text")
        if text.get("class") is None and text.text in told
    ]
    assert len(labels) == len(poles) > 0
    for number, (x, y, width) in enumerate(labels):
        assert x >= 0 and x + width <= 720
        for other_x, other_y, other_width in labels[number + 1 :]:
            assert abs(other_y - y) >= 14 or other_x >= x + width or x >= other_x + other_width
        for at, top, bottom in poles:
            assert not x < at < x + width or not top < y < bottom or at == x - 5


def test_the_axes_of_points_hold_what_is_drawn_and_sizes_stand_at_equal_ratios():
    points = [Point(label=str(x), x=x, y=0.9, low=0.85, high=0.95) for x in (50, 100, 200)]
    drawing = point_chart(points, title="", x_label="size in MB", y_label="score", percent=True)
    first, second, third = (float(c.get("cx")) for c in parsed(drawing).iter(f"{SVG}circle"))
    assert second - first == pytest.approx(third - second, abs=0.2)
    shown = texts(drawing)
    assert {"size in MB, logarithmic", "85 %", "95 %"} <= set(shown) and "0 %" not in shown
