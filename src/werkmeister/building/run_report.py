"""A training for people: its figures in words, and one self-contained page with all curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from werkmeister.building.run_state import RunState, complete_run
from werkmeister.drawing import line_chart
from werkmeister.machine import in_words

NOT_MEASURED = "not measured"
_NOTE = (
    "Losses are in nats per learnt token; the training loss is the mean since the point before, of batches that the "
    "model had not learnt from in this epoch. Memory is that of the training process; power is what the GPU's driver "
    "reports (NVML), and energy its sum over time, of the GPU alone."
)


def figures(state: RunState) -> list[tuple[str, str]]:
    """What a run is at, as pairs of a word and a figure with its unit; what nothing tells is "not measured"."""
    steps = f"{state.step:,}" + (f" of {state.steps:,}" if state.steps else "")
    mark = state.latest("eval_mark")
    found = [
        ("step", steps),
        ("loss", _decimals(state.latest("loss"))),
        ("validation loss", _decimals(state.latest("eval_loss"))),
        *([("validation mark", f"{mark * 100:.1f} %")] if mark is not None else []),
        ("learning rate", _short(state.latest("learning_rate"))),
        ("tokens/s", f"{state.tokens_per_second:,.0f}" if state.tokens_per_second else NOT_MEASURED),
        ("peak memory" if state.complete else "memory", _size(state.memory)),
        ("peak GPU memory", _size(state.gpu_memory)),
        ("mean GPU power" if state.complete else "GPU power", _unit(state.gpu_power, "W", 0)),
        ("GPU energy", energy_words(state.gpu_joules)),
        ("time", duration(state.seconds)),
    ]
    if not state.complete:
        found.append(("time left", duration(state.seconds_left)))
    return found


def run_page(state: RunState, *, name: str, running: bool = False) -> str:
    """The page of a run as it stands; `running` says that a process is at work on it."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    told = figures(state)
    return environment.get_template("run_report.html").render(
        name=name,
        told=standing(state, running=running),
        share=None if state.complete or not state.steps else state.step / state.steps,
        tiles=[(word, figure) for word, figure in told if figure != NOT_MEASURED],
        absent=[word for word, figure in told if figure == NOT_MEASURED],
        charts=[Markup(chart) for chart in charts(state)],
        note=_NOTE,
    )


def write_run_page(folder: Path, measures: Mapping[str, Any], *, name: str) -> None:
    """Write report.html of a training that is over into its folder."""
    (folder / "report.html").write_text(run_page(complete_run(folder, measures), name=name), encoding="utf-8")


def standing(state: RunState, *, running: bool) -> str:
    """Where a run stands, in one sentence."""
    if state.complete:
        best = state.measures.get("best_step")
        chosen = f" The adapter is that of step {best:,}." if best else ""
        resumed = state.measures.get("resumed")
        broken = f" It was interrupted {resumed} time{'s' * (resumed > 1)} and went on." if resumed else ""
        return f"Complete: {state.step:,} steps in {duration(state.seconds)}.{chosen}{broken}"
    if running:
        return f"Running: about {duration(state.seconds_left)} left." if state.seconds_left else "Running."
    return f"Interrupted at step {state.step:,}: werkmeister train goes on from the last checkpoint."


def charts(state: RunState) -> list[str]:
    """All curves of a run as SVG; a figure that was never measured has none."""
    both = {"training": state.series("loss"), "validation": state.series("eval_loss")}
    drawn = [line_chart(both, title="Loss", x_label="step", y_label="nats per learnt token", log_y=True)]
    gigabytes = {
        word: [(step, size / 1e9) for step, size in state.series(key)]
        for word, key in (("process", "memory"), ("GPU, peak so far", "gpu_memory"))
    }
    others = [
        ("Mark of the validation answers", "share", {"": state.series("eval_mark")}),
        ("Learning rate", "learning rate", {"": state.series("learning_rate")}),
        ("Speed", "tokens/s, without padding", {"": state.rates()}),
        ("Memory", "GB", {word: points for word, points in gigabytes.items() if points}),
        ("Power of the GPU", "W", {"": state.series("gpu_power")}),
        ("Norm of the gradient", "norm", {"": state.series("grad_norm")}),
    ]
    return drawn + [
        line_chart(series, title=title, x_label="step", y_label=unit)
        for title, unit, series in others
        if any(len(points) > 1 for points in series.values())
    ]


def duration(seconds: float | None) -> str:
    """A time as people say it: 45 s, 12 min, 3 h 05 min."""
    if seconds is None:
        return NOT_MEASURED
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def energy_words(joules: float | None) -> str:
    """Energy as people pay for it: 850 J, 12.3 Wh, 1.20 kWh."""
    if joules is None:
        return NOT_MEASURED
    if joules < 3600:
        return f"{joules:.0f} J"
    return f"{joules / 3600:.1f} Wh" if joules < 3.6e6 else f"{joules / 3.6e6:.2f} kWh"


def _decimals(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.4f}"


def _short(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2e}"


def _size(value: float | None) -> str:
    return NOT_MEASURED if value is None else in_words(value)


def _unit(value: float | None, unit: str, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f} {unit}"
