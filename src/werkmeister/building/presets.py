"""Rank, learning rate and epochs for a number of examples, where the person set none."""

from __future__ import annotations

from dataclasses import replace

from werkmeister.building.settings import TrainSettings
from werkmeister.progress import Progress

_STEPS = ((300, 5.0, 8), (3_000, 3.0, 16), (30_000, 2.0, 32))
"""Up to so many examples: epochs and rank. Few examples are seen more often, so that there are steps enough to learn
from; the checkpoint that is best on the validation split guards against too many."""
_MANY = (1.0, 64)
_RATE, _WIDTH, _FALL = 1e-3, 576, 0.78
"""The rate that was best for SmolLM2-135M (width 576; EXPERIMENTS.md), and how it falls with the width."""
_FEW_STEPS, _FASTER = 100, 1.5
_RANK_STABLE_ALPHA = 8.0
_DERIVED = ("rank", "alpha", "learning_rate", "epochs")


def settle(settings: TrainSettings, *, examples: int, width: int, progress: Progress | None = None) -> TrainSettings:
    """The settings with every 0 that means "derived" replaced, and told; what the person set stays.

    `examples` are those of train, `width` the hidden size of the base. The rate falls with width^0.78 and does not
    depend on the rank; runs of fewer than 100 steps take half as much again (Schulman et al. 2025, "LoRA Without
    Regret"). alpha is twice the rank, as it was in the runs that the rate comes from; with rslora it is 8, which at
    rank 16 is the same scale.
    """
    epochs, rank = next(((epochs, rank) for most, epochs, rank in _STEPS if examples <= most), _MANY)
    epochs, rank = settings.epochs or epochs, settings.rank or rank
    rate = _RATE * (_WIDTH / width) ** _FALL
    if examples * epochs < _FEW_STEPS * settings.batch_size:
        rate *= _FASTER
    settled = replace(
        settings,
        epochs=epochs,
        rank=rank,
        alpha=settings.alpha or (_RANK_STABLE_ALPHA if settings.rslora else 2.0 * rank),
        learning_rate=settings.learning_rate or float(f"{rate:.2g}"),
    )
    told = [f"{key.replace('_', ' ')} {getattr(settled, key):g}" for key in _DERIVED if not getattr(settings, key)]
    if told and progress:
        progress.say(f"by {examples:,} examples and the base's width of {width:,}: {', '.join(told)}")
    return settled
