"""The engine that holds a model as training left it: transformers on CPU or CUDA, with an own batched decoding loop.

`model.generate` gives neither a stream of a batch nor rows that leave when they are done, so the loop is here: prompts
are padded on the left, keys and values are cached, and rows that ended are taken out of the batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.bases import tokens
from werkmeister.bases.base import Base
from werkmeister.bases.load import load_model, nf4, quiet
from werkmeister.chat import Conversation, Example
from werkmeister.engines.engine import Finished, Reply, Sampling, Token
from werkmeister.engines.stopping import StopTexts
from werkmeister.errors import ArtefactError, ContextError, EngineError
from werkmeister.machine import read_machine

if TYPE_CHECKING:
    import torch

_WINDOW = 8  # batches that are sorted by length together: replies come in order after each window
_SHRINK = 0.75  # the batch is compacted when no more than this share of its rows is alive


class TransformersEngine:
    """A causal language model of transformers and its tokenizer. Satisfies Engine and Inspectable.

    `stop` are texts of single tokens that end a turn, beside the end tokens of tokenizer and generation config. The
    prompt is that of `bases.tokens`, as in training. A batch gives the same greedy answers as single calls up to
    rounding. A JSON schema is refused: only llama.cpp can enforce one.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str, batch_size: int = 16, stop: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.context_length = int(model.config.get_text_config().max_position_embeddings)
        self.batch_size = batch_size
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._end_ids = _end_ids(model, tokenizer, stop)

    def __enter__(self) -> TransformersEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model; its memory is free when no one else holds it."""
        self._model = None

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """Token ids of the conversation up to where the answer begins, as training made them."""
        return tokens.prompt_ids(self._tokenizer, conversation)

    def next_logprobs(self, conversation: Conversation, top: int) -> dict[int, float]:
        """The `top` likeliest first tokens (up to the whole vocabulary): token id → logprob, likeliest first."""
        ids = self.prompt_ids(conversation)
        self._check(ids, Sampling(max_tokens=1))
        logprobs = _Batch(self._model, [ids]).step(None)[0]
        values, found = logprobs.topk(min(top, logprobs.numel()))
        return dict(zip(found.tolist(), values.tolist(), strict=True))

    def answer_logprobs(self, conversation: Conversation, answers: Sequence[str]) -> list[list[float]]:
        """For each answer the natural logarithm of the probability of each of its tokens after the conversation.

        The token that ends the turn is left out: whether an answer stops is another question than whether it is right.
        Raises ContextError when one does not fit.
        """
        examples = [Example(prompt=conversation, target=answer) for answer in answers]
        pairs = tokens.examples_ids(self._tokenizer, examples)
        head, own = pairs[0][0], [completion[:-1] for _, completion in pairs]
        longest = max(len(ids) for ids in own)
        self._check(head, Sampling(max_tokens=max(1, longest)))
        batch = _Batch(self._model, [head])
        steps = [batch.step(None).expand(len(own), -1)]
        if longest > 1:
            steps += batch.after([ids + [0] * (longest - len(ids)) for ids in own])
        return [[float(steps[i][row, token]) for i, token in enumerate(ids)] for row, ids in enumerate(own)]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[Token | Finished]:
        """Yield tokens as they come and one Finished.

        Raises at once: ContextError when prompt and max_tokens do not fit, EngineError for a schema.
        """
        ids = self.prompt_ids(conversation)
        self._check(ids, sampling)
        return (item for _, item in self._generate([ids], sampling))

    def replies(self, conversations: Sequence[Conversation], sampling: Sampling) -> Iterator[Reply]:
        """Answer in batches of `batch_size`, prompts of like length together; in order, a window of batches at a time.

        Seconds of a Reply count from the start of its batch.
        """
        window = _WINDOW * self.batch_size
        for first in range(0, len(conversations), window):
            prompts = []
            for number, conversation in enumerate(conversations[first : first + window], first + 1):
                prompts.append(self.prompt_ids(conversation))
                try:
                    self._check(prompts[-1], sampling)
                except ContextError as error:
                    where = f"conversation {number} of {len(conversations)}"
                    raise ContextError(f"{where}: {error.message}", hint=error.hint) from error
            order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True)
            done: dict[int, Reply] = {}
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                done |= zip(rows, self._batch([prompts[row] for row in rows], sampling), strict=True)
            yield from (done[row] for row in range(len(prompts)))

    def _batch(self, prompts: list[list[int]], sampling: Sampling) -> list[Reply]:
        begin = time.perf_counter()
        given: list[list[Token]] = [[] for _ in prompts]
        first = [0.0] * len(prompts)
        replies: dict[int, Reply] = {}
        for row, item in self._generate(prompts, sampling):
            now = time.perf_counter() - begin
            if isinstance(item, Finished):
                replies[row] = Reply(
                    text="".join(token.text for token in given[row]),
                    tokens=tuple(given[row]),
                    finish=item.finish,
                    prompt_tokens=item.prompt_tokens,
                    answer_tokens=len(given[row]),
                    first_seconds=first[row],
                    seconds=now,
                )
                continue
            first[row] = first[row] or now
            given[row].append(item)
        return [replies[row] for row in range(len(prompts))]

    def _generate(self, prompts: list[list[int]], sampling: Sampling) -> Iterator[tuple[int, Token | Finished]]:
        """Tokens of all rows as they come, each with its row; a Finished ends a row."""
        batch = _Batch(self._model, prompts)
        choosers = [_Chooser(sampling) for _ in prompts]
        characters = [Characters(self._tokenizer) for _ in prompts]
        texts = [StopTexts(sampling.stop) for _ in prompts]
        alive = list(range(len(prompts)))  # alive[i] is the prompt of the batch's row i
        ended: set[int] = set()
        chosen: list[int] | None = None
        for count in range(1, sampling.max_tokens + 1):
            logprobs = batch.step(chosen)
            chosen = [choosers[row](logprobs[i]) if row not in ended else 0 for i, row in enumerate(alive)]
            values = logprobs.gather(1, logprobs.new_tensor(chosen).long()[:, None])[:, 0].tolist()
            for i, row in enumerate(alive):
                if row in ended:
                    continue
                is_end = chosen[i] in self._end_ids
                piece, stopped = ("", False) if is_end else texts[row].push(characters[row].push(chosen[i]))
                last = is_end or stopped or count == sampling.max_tokens
                yield row, Token(piece + (texts[row].rest() if last else ""), values[i])
                if last:
                    ended.add(row)
                    yield (
                        row,
                        Finished(
                            finish="stop" if is_end or stopped else "length",
                            prompt_tokens=len(prompts[row]),
                            answer_tokens=count,
                        ),
                    )
            keep = [i for i, row in enumerate(alive) if row not in ended]
            if not keep:
                return
            if len(keep) <= _SHRINK * len(alive):
                batch.keep(keep)
                alive, chosen = [alive[i] for i in keep], [chosen[i] for i in keep]

    def _check(self, ids: list[int], sampling: Sampling) -> None:
        if self._model is None:
            raise EngineError(f"the engine {self.name} is closed", hint="open it again")
        if sampling.schema is not None:
            raise EngineError(
                f"{self.name} runs on transformers, which cannot hold an answer to a JSON schema",
                hint="export the model and ask the GGUF file, or leave the schema away",
            )
        answer = sampling.max_tokens
        if answer < 1:
            raise ContextError(f"max_tokens is {answer}, and an answer needs at least 1")
        if len(ids) + answer > self.context_length:
            raise ContextError(
                f"the prompt has {len(ids)} tokens and the answer may have {answer}: together {len(ids) + answer}, and "
                f"the context of {self.name} holds {self.context_length}",
                hint="shorten the question or the conversation, or lower max_tokens",
            )


def open_transformers(
    base: Base,
    adapter: Path | None = None,
    *,
    batch_size: int = 16,
    dtype: torch.dtype | None = None,
    device: str | None = None,
    exact: bool = False,
) -> TransformersEngine:
    """The engine of a base as training loads it, with the PEFT adapter of a train artefact over it where one is given.

    `dtype` None means bfloat16 where the hardware multiplies it (3.6 times the answers of float32 in batches of 16 on a
    Zen 5 core), as in training, otherwise float32; `device` None means the GPU where there is one. A base that does not
    fit the GPU so is held there in NF4, as training holds it. `exact`: float32 on the CPU. Raises BaseModelError when
    the base cannot be loaded, ArtefactError when the adapter does not fit it.
    """
    import torch

    if exact:
        dtype, device = torch.float32, "cpu"
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if place == "cuda" else read_machine().bf16
    dtype = dtype or (torch.bfloat16 if fast else torch.float32)
    quantised = nf4(dtype) if place == "cuda" and not _fits_gpu(base, dtype) else None
    model: Any = load_model(base, dtype=dtype, device=place, quantization_config=quantised)
    if adapter is not None:
        from peft import PeftModel

        try:
            with quiet():
                model = PeftModel.from_pretrained(model, adapter)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ArtefactError(
                f"the adapter {adapter} does not fit {base.name}: {error}", hint="run werkmeister train again"
            ) from error
    name = base.name if adapter is None else f"{base.name} + {adapter.name}"
    tokenizer = tokens.load_tokenizer(base)
    return TransformersEngine(model, tokenizer, name=name, batch_size=batch_size, stop=base.stop)


def _fits_gpu(base: Base, dtype: torch.dtype) -> bool:
    """Whether the weights fit the free memory of the GPU and leave a fifth of it for keys, values and logits."""
    import torch

    return base.parameters * dtype.itemsize <= 0.8 * torch.cuda.mem_get_info()[0]


class _Batch:
    """Rows under way: the left-padded prompts, then one token a row and step, with cached keys and values."""

    def __init__(self, model: Any, prompts: list[list[int]]) -> None:
        import torch

        self._model = model
        width = max(len(prompt) for prompt in prompts)
        device = model.device
        self._ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
        self._mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        self._positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        self._cache: Any = None

    def step(self, chosen: list[int] | None) -> torch.Tensor:
        """Log-probabilities (rows, vocabulary) in fp32 after the `chosen` tokens; None at the start."""
        import torch

        with torch.inference_mode():
            if chosen is not None:
                self._ids = self._ids.new_tensor(chosen)[:, None]
                self._mask = torch.cat([self._mask, self._mask.new_ones(len(chosen), 1)], dim=1)
                self._positions = self._positions[:, -1:] + 1
            out = self._model(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
            self._cache = out.past_key_values
            logprobs: torch.Tensor = out.logits[:, -1].float().log_softmax(-1)
        if not bool(torch.isfinite(logprobs.amax(dim=-1)).all()):
            raise EngineError(
                f"the model's logits are not finite ({self._model.dtype})",
                hint="load it in bfloat16 or float32: Gemma overflows in float16",
            )
        return logprobs

    def after(self, continuations: list[list[int]]) -> list[torch.Tensor]:
        """Log-probabilities (continuations, vocabulary) after each token but the last of several continuations of one
        prompt, all of one length."""
        import torch

        self._cache.batch_repeat_interleave(len(continuations))
        ids = self._ids.new_tensor(continuations)[:, :-1]
        mask = self._mask.new_ones(len(ids), self._mask.shape[1] + ids.shape[1])
        with torch.inference_mode():
            out = self._model(input_ids=ids, attention_mask=mask, past_key_values=self._cache, use_cache=True)
            return list(out.logits.float().log_softmax(-1).unbind(1))

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only."""
        import torch

        chosen = torch.tensor(rows, device=self._mask.device)
        self._mask, self._positions = self._mask[chosen], self._positions[chosen]
        self._cache.batch_select_indices(chosen)


class _Chooser:
    """Draws one row's tokens; each row has a generator of its own, so a batch draws what single calls draw."""

    def __init__(self, sampling: Sampling) -> None:
        import torch

        self._sampling = sampling
        self._random = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, logprobs: torch.Tensor) -> int:
        import torch

        if self._sampling.temperature == 0:
            return int(logprobs.argmax())
        probabilities = (logprobs / self._sampling.temperature).softmax(-1)
        ordered, ids = probabilities.sort(descending=True)
        cumulated = ordered.cumsum(0)
        # The nucleus: the fewest tokens whose probabilities reach top_p.
        inside = int((cumulated < self._sampling.top_p).sum()) + 1
        point = torch.rand((), generator=self._random).item() * float(cumulated[:inside][-1])
        return int(ids[min(int((cumulated[:inside] < point).sum()), cumulated[:inside].numel() - 1)])


@dataclass
class Characters:
    """Turns one row's ids into text, whole characters only; one that stays incomplete is dropped."""

    tokenizer: Any
    _ids: list[int] = field(default_factory=list)
    _start: int = 0  # decoding begins here, one finished piece before the open one: tokens depend on what precedes
    _open: int = 0  # ids from here on have not become text yet

    def push(self, number: int) -> str:
        """The text that this token completes."""
        self._ids.append(number)
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        before: str = self.tokenizer.decode(self._ids[self._start : self._open], **options)
        whole: str = self.tokenizer.decode(self._ids[self._start :], **options)
        if whole.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        self._start, self._open = self._open, len(self._ids)
        return whole[len(before) :]


def _end_ids(model: Any, tokenizer: Any, stop: Sequence[str]) -> frozenset[int]:
    ids = {tokenizer.eos_token_id}
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids |= set(configured) if isinstance(configured, list) else {configured}
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary.get(text) for text in stop}
    ids.discard(None)
    if not ids:
        raise EngineError("neither tokenizer nor model names an end token", hint="give the base's stop texts")
    return frozenset(int(number) for number in ids)
