"""The trained model as the parity gate's reference: what transformers and PEFT say on exam prompts, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from werkmeister.bases.base import Base
from werkmeister.bases.load import load_model, quiet
from werkmeister.bases.tokens import full_ids, load_tokenizer, prompt_ids
from werkmeister.chat import Conversation, Example, Message
from werkmeister.engines.engine import Sampling, reply
from werkmeister.engines.transformers import TransformersEngine
from werkmeister.errors import DataError
from werkmeister.machine import in_words, read_machine
from werkmeister.progress import Progress

if TYPE_CHECKING:
    import torch

Logprobs = npt.NDArray[np.float32]
# Distributions are compared at that many places of each answer, from before its first token to before its end.
PLACES = 12
# Answers that are generated to their end, and how many tokens beyond the target they may take.
TO_END = 4
# Conversations of several turns whose token ids are compared.
TURNS = 2
ROOM = 64


@dataclass(frozen=True, eq=False)
class Prompt:
    """An exam prompt: the conversation, its token ids, and the ids of the target answer with its end token."""

    conversation: Conversation
    ids: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def question(self) -> str:
        """The last user message, as errors name the prompt."""
        return self.conversation[-1].content


@dataclass(frozen=True, eq=False)
class Point:
    """One place in an answer: log-probabilities over the vocabulary after `place` tokens of the target, with the
    adapter and without."""

    prompt: Prompt
    place: int
    trained: Logprobs
    base: Logprobs


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What served files are compared with.

    `turns` are the first prompts again, in a conversation that goes on behind the answer: their ids alone are compared.
    `to_end` are prompts whose answers the trained model ends by itself, with the length of that answer in tokens.
    `arithmetic` is the dtype of the reference: float32 wherever it fits into memory.
    """

    prompts: tuple[Prompt, ...]
    turns: tuple[Prompt, ...]
    points: tuple[Point, ...]
    to_end: tuple[tuple[Prompt, int], ...]
    context_length: int
    arithmetic: str


@dataclass(frozen=True, eq=False)
class Trained:
    """Base and adapter, loaded: `model` is a PeftModel in `arithmetic` (float32 wherever it fits into memory)."""

    base: Base
    model: Any
    tokenizer: Any
    arithmetic: str


def load_trained(base: Base, adapter: Path, progress: Progress) -> Trained:
    """Load the trained model; it is freed with the last reference to what is returned."""
    from peft import PeftModel

    dtype = _dtype(base, progress)
    model = load_model(base, dtype=dtype)
    with quiet():
        model = PeftModel.from_pretrained(model, adapter).eval()
    return Trained(base, model, load_tokenizer(base), str(dtype).removeprefix("torch."))


def refer(trained_model: Trained, examples: Sequence[Example], progress: Progress) -> Reference:
    """Run the trained model along the target answers of `examples`: two forward passes each, with the adapter and
    without. Where these do not show that it ends its answers, it generates two.

    Raises DataError when no example leaves room for an answer in the context.
    """
    base, model, tokenizer = trained_model.base, trained_model.model, trained_model.tokenizer
    prompts = _prompts(tokenizer, examples, base.context_length)
    points: list[Point] = []
    certain: list[tuple[Prompt, int]] = []
    with progress.track("reading the trained model", len(prompts)) as track:
        for prompt in prompts:
            trained = _logprobs(model, prompt)
            with model.disable_adapter():
                plain = _logprobs(model, prompt)
            points += [Point(prompt, place, trained[place], plain[place]) for place in _places(len(prompt.answer))]
            if tuple(trained.argmax(-1).tolist()) == prompt.answer:
                certain.append((prompt, len(prompt.answer)))
            track.advance()
    engine = TransformersEngine(model, tokenizer, name="trained model", stop=base.stop)
    return Reference(
        prompts=tuple(prompts),
        turns=tuple(_going_on(tokenizer, examples[:TURNS], base.context_length)),
        points=tuple(points),
        to_end=tuple(certain[:TO_END] or _generated(engine, prompts[: TO_END // 2])),
        context_length=base.context_length,
        arithmetic=trained_model.arithmetic,
    )


def _going_on(tokenizer: Any, examples: Sequence[Example], context_length: int) -> Iterator[Prompt]:
    """Each question once more behind its answer, where both fit the context."""
    for example in examples:
        turns = (*example.prompt, Message("assistant", example.target), example.prompt[-1])
        ids = prompt_ids(tokenizer, turns)
        if len(ids) + ROOM <= context_length:
            yield Prompt(turns, tuple(ids), ())


def _dtype(base: Base, progress: Progress) -> torch.dtype:
    import torch

    needed = base.parameters * 4
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else read_machine().memory_free
    if needed * 1.2 < free:
        return torch.float32
    progress.say(
        f"the trained model in float32 takes {in_words(needed)} of memory and {in_words(free)} are free: "
        "parity is measured against bfloat16, with wider bounds"
    )
    return torch.bfloat16


def _prompts(tokenizer: Any, examples: Sequence[Example], context_length: int) -> list[Prompt]:
    prompts = []
    for example in examples:
        ids, answer = full_ids(tokenizer, example)
        if len(ids) + 2 * len(answer) + ROOM <= context_length:
            prompts.append(Prompt(example.prompt, tuple(ids), tuple(answer)))
    if not prompts:
        raise DataError(
            f"none of {len(examples)} exam prompts leaves room for two answers in a context of {context_length} tokens",
            hint="shorten the system message or the prompts",
        )
    return prompts


def _places(length: int) -> list[int]:
    return sorted({round((length - 1) * step / (PLACES - 1)) for step in range(PLACES)}) if length else []


def _logprobs(model: Any, prompt: Prompt) -> Logprobs:
    """Log-probabilities [answer length, vocabulary] of each token of the answer, given all before it."""
    import torch

    ids = torch.tensor([[*prompt.ids, *prompt.answer[:-1]]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, logits_to_keep=len(prompt.answer)).logits[0]
        found: Logprobs = logits.float().log_softmax(-1).cpu().numpy()
    return found


def _generated(engine: TransformersEngine, prompts: Sequence[Prompt]) -> list[tuple[Prompt, int]]:
    """The prompts that the trained model answers and ends within the room, with the answers' lengths."""
    found = []
    for prompt in prompts:
        answer = reply(engine, prompt.conversation, Sampling(max_tokens=len(prompt.answer) + ROOM))
        if answer.finish == "stop":
            found.append((prompt, answer.answer_tokens))
    return found
