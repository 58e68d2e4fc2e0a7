"""The trained model as the parity gate's reference: what transformers and PEFT say on exam prompts, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from werkmeister.bases.base import Base
from werkmeister.chat import Conversation, Example, messages_json
from werkmeister.progress import Progress

if TYPE_CHECKING:
    import torch

Logprobs = npt.NDArray[np.float32]
# Places along an answer where distributions are compared: before its first token, on the way, and before its end.
_PLACES = 4
_TO_END = 4
_ROOM = 128


@dataclass(frozen=True, eq=False)
class Prompt:
    """An exam prompt: the conversation, its token ids, and the ids of the target answer with its end token."""

    conversation: Conversation
    ids: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Point:
    """One place in an answer: log-probabilities over the vocabulary after `place` answer tokens, with and without
    the adapter."""

    prompt: Prompt
    place: int
    trained: Logprobs
    base: Logprobs


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What served files are compared with. `to_end` are prompts whose answers the trained model ends by itself, with
    the length of that answer in tokens; `room` is how many tokens an answer may have beyond its target."""

    prompts: tuple[Prompt, ...]
    points: tuple[Point, ...]
    to_end: tuple[tuple[Prompt, int], ...]
    context_length: int
    room: int = _ROOM


def refer(base: Base, adapter: Path, examples: Sequence[Example], progress: Progress) -> Reference:
    """Run the trained model over `examples` (answers teacher-forced, one forward pass each with and without the
    adapter) and let it answer where that does not show whether it ends."""
    model, tokenizer = _open(base, adapter)
    ends = _end_ids(base, model, tokenizer)
    prompts, points = [], []
    sure: list[tuple[Prompt, int]] = []
    with progress.track("reading the trained model", len(examples)) as track:
        for example in examples:
            prompt = _prompt(tokenizer, example, ends)
            trained = _logprobs(model, prompt)
            with model.disable_adapter():
                plain = _logprobs(model, prompt)
            prompts.append(prompt)
            points += [Point(prompt, place, trained[place], plain[place]) for place in _places(len(prompt.answer))]
            if prompt.answer and tuple(trained[:-1].argmax(-1).tolist()) == prompt.answer:
                sure.append((prompt, len(prompt.answer)))
            track.advance()
    return Reference(
        prompts=tuple(prompts),
        points=tuple(points),
        to_end=tuple(sure[:_TO_END] or _generated(model, prompts[: _TO_END // 2], ends)),
        context_length=base.context_length,
    )


def _open(base: Base, adapter: Path) -> tuple[Any, Any]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    tokenizer.chat_template = base.template
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).eval(), tokenizer


def _end_ids(base: Base, model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids of the tokens that end a turn under the template in force."""
    known = tokenizer.get_vocab()
    return frozenset({known[text] for text in base.stop if text in known} | {tokenizer.eos_token_id})


def _prompt(tokenizer: Any, example: Example, ends: frozenset[int]) -> Prompt:
    messages = messages_json(example.prompt)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": example.target}], return_dict=False
    )
    answer = (
        whole[len(ids) :] if whole[: len(ids)] == ids else tokenizer.encode(example.target, add_special_tokens=False)
    )
    end = next((place for place, token in enumerate(answer) if token in ends), len(answer) - 1)
    return Prompt(example.prompt, tuple(ids), tuple(answer[: end + 1]))


def _places(length: int) -> list[int]:
    last = max(length - 1, 0)
    return sorted({round(last * step / (_PLACES - 1)) for step in range(_PLACES)})


def _logprobs(model: Any, prompt: Prompt) -> Logprobs:
    """Log-probabilities [answer length + 1, vocabulary] from before the answer's first token on."""
    import torch

    ids = torch.tensor([[*prompt.ids, *prompt.answer]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, logits_to_keep=len(prompt.answer) + 1).logits[0]
        found: Logprobs = logits.float().log_softmax(-1).cpu().numpy()
    return found


def _generated(model: Any, prompts: Sequence[Prompt], ends: frozenset[int]) -> list[tuple[Prompt, int]]:
    """The prompts that the trained model answers and ends within the room, with the answers' lengths."""
    import torch

    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt.ids], device=model.device)
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=_ROOM // 2,
                do_sample=False,
                eos_token_id=sorted(ends),
                pad_token_id=min(ends),
            )
        answer = made[0, len(prompt.ids) :].tolist()
        if answer and answer[-1] in ends:
            found.append((prompt, len(answer)))
    return found
