"""Which training examples stand in front of a question of "base few-shot": the best prompt that costs no training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from werkmeister.chat import Conversation, Example, Message
from werkmeister.examining.baseline import most_similar
from werkmeister.examining.extracting import is_open
from werkmeister.grounding import is_learnt_refusal, read_open_book


def choose_shots(asked: Sequence[Example], training: Sequence[Example], count: int) -> list[list[Example]]:
    """For each question at most `count` training examples, the most similar one last.

    Without passages these are the ones with the most similar prompts (TF-IDF). An open-book question gets open-book
    examples, a closed-book one others: those of `short_examples` with the most similar bare question, and of two or
    more the first is an unanswerable one, where there is any: nobody abstains who was never shown how.
    """
    short = short_examples(training)
    if not short:
        return most_similar(training, [example.prompt for example in asked], count)
    opened, closed = _parted(short, is_open)
    chosen: dict[str, list[Example]] = {}
    for examples, pool in zip(_parted(asked, is_open), (opened, closed or opened), strict=True):
        refusals, answers = _parted(pool, lambda e: is_learnt_refusal(e.target))
        shown = 1 if refusals and answers and count > 1 else 0
        first, rest = _near(examples, refusals, shown), _near(examples, answers or refusals, count - shown)
        chosen |= {e.id: [*one, *many] for e, one, many in zip(examples, first, rest, strict=True)}
    return [chosen[example.id] for example in asked]


def short_examples(training: Sequence[Example]) -> list[Example]:
    """The examples that are no longer (in characters) than half of the open-book ones; [] when none is open-book.

    A prompt of several long passages is slow to read, and may not fit.
    """
    lengths = [_length(example) for example in training if is_open(example)]
    if not lengths:
        return []
    longest = statistics.median_low(lengths)
    return [example for example in training if _length(example) <= longest]


def with_shots(prompt: Conversation, near: Sequence[Example]) -> Conversation:
    """A prompt with examples as turns between its system message and its question."""
    head = tuple(message for message in prompt if message.role == "system")
    turns = tuple(
        message
        for example in near
        for message in (*(m for m in example.prompt if m.role != "system"), Message("assistant", example.target))
    )
    return (*head, *turns, *prompt[len(head) :])


def _length(example: Example) -> int:
    return sum(len(message.content) for message in example.prompt) + len(example.target)


def _parted(examples: Sequence[Example], belongs: Callable[[Example], bool]) -> tuple[list[Example], list[Example]]:
    return [e for e in examples if belongs(e)], [e for e in examples if not belongs(e)]


def _near(asked: Sequence[Example], pool: Sequence[Example], count: int) -> list[list[Example]]:
    """The `count` examples of the pool with the most similar bare question, the most similar one last."""
    if not count or not pool or not asked:
        return [[] for _ in asked]
    bare = [replace(example, prompt=_bare(example.prompt)) for example in pool]
    whole = dict(zip((example.id for example in bare), pool, strict=True))
    found = most_similar(bare, [_bare(example.prompt) for example in asked], count)
    return [[whole[example.id] for example in row] for row in found]


def _bare(prompt: Conversation) -> Conversation:
    last = prompt[-1]
    return (*prompt[:-1], replace(last, content=read_open_book(last.content)[1]))
