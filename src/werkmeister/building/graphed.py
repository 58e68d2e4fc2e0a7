"""The decoder's forward and backward pass over a packed row as two CUDA graphs, recorded once a row length.

A pass over 34 layers is some ten thousand small calls, and at 8,192 tokens a host of ordinary speed needs longer to
make them than the GPU to run them (EXPERIMENTS.md). A recorded graph is one call. Rows are filled up to a few lengths
with tokens that weigh nothing, so that few graphs are recorded; the loss stays outside, since the number of labelled
tokens changes. Graphs are replayed one after the other and share their memory.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from werkmeister.building.pieces import ran_out_of_memory

_STEPS = 16
"""Row lengths are multiples of a sixteenth of the longest, so that filling up costs some per cent at most."""


@dataclass(kw_only=True)
class _Recorded:
    forward: Any
    backward: Any
    row: dict[str, Any]
    size: int


class GraphedDecoder:
    """Runs `decoder` (a transformers decoder whose adapters alone are learnt) on packed rows through graphs.

    `tokens` is the longest row and `longest` the longest example. Takes the place of the decoder's forward; calls
    without gradients, and rows that fit no graph, run as before.
    """

    def __init__(self, decoder: Any, *, tokens: int, longest: int) -> None:
        self._decoder, self._own = decoder, decoder.forward
        self.tokens, self._longest = tokens, longest
        self._learnt = [p for p in decoder.parameters() if p.requires_grad]
        self._sums: list[Tensor] = []
        self._graphs: dict[int, _Recorded] = {}
        self._pool: Any = None
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # What ties a replay to the loss; a parameter would keep a node of its own alive over the next recording.
        self._anchor = torch.zeros((), requires_grad=True)
        self.failed = ""
        self.hidden, self.slope = (torch.empty(0) for _ in range(2))
        decoder.forward = self

    def __call__(self, *args: Any, **row: Any) -> Any:
        """What the decoder's own forward gives."""
        from transformers.modeling_outputs import BaseModelOutputWithPast

        ends = row.get("cu_seq_lens_q")
        size = self._size(row["input_ids"].shape[1]) if ends is not None else 0
        if ends is None or self.failed or not torch.is_grad_enabled() or size > self.tokens or len(ends) > slots(size):
            return self._own(*args, **row)
        if size not in self._graphs and not self._try_to_record(size, row):
            return self._own(*args, **row)
        graph = self._graphs[size]
        _fill(graph.row, row)
        hidden: Any = _Replay.apply(self._anchor, self, graph)  # type: ignore[no-untyped-call]
        return BaseModelOutputWithPast(last_hidden_state=hidden[:, : row["input_ids"].shape[1]])

    def limit(self, tokens: int) -> None:
        """Forget all graphs and their memory, and take rows of at most `tokens` from now on."""
        self._graphs.clear()
        self._pool, self.tokens = None, tokens

    def collect(self) -> None:
        """Hand the gradients that the replayed backward pass summed up to the parameters."""
        for parameter, total in zip(self._learnt, self._sums, strict=True):
            parameter.grad = total

    def prepare(self) -> None:
        """Start the sums of a step at zero: whoever drops the gradients ends the step."""
        if self._learnt[0].grad is None:
            torch._foreach_zero_(self._sums)

    def _size(self, tokens: int) -> int:
        step = max(64, -(-self.tokens // _STEPS // 64) * 64)
        return min(-(-tokens // step) * step, max(self.tokens, tokens))

    def _try_to_record(self, size: int, like: dict[str, Any]) -> bool:
        """Record the graphs of a row length; where that cannot be done, no graph is used from then on."""
        try:
            self._record(size, like)
        except RuntimeError as error:
            if ran_out_of_memory(error):
                raise
            self._graphs.clear()
            self._pool, self.failed = None, f"{type(error).__name__}: {str(error).splitlines()[0]}"
            torch.cuda.synchronize()
            gc.collect()
            torch.cuda.empty_cache()
            return False
        return True

    def _record(self, size: int, like: dict[str, Any]) -> None:
        device = like["input_ids"].device
        if self.hidden.shape[-2:-1] != (self.tokens,):
            width = self._decoder.config.get_text_config().hidden_size
            self.hidden = torch.zeros(1, self.tokens, width, dtype=self._decoder.dtype, device=device)
            self.slope = torch.zeros_like(self.hidden)
        stream = self._stream
        stream.wait_stream(torch.cuda.current_stream())
        if not self._sums:
            self._sums = [torch.zeros_like(p) for p in self._learnt]
            # Compiles, tunes and initialises everything: none of that may happen while a graph is recorded.
            # On the recording's own stream: a parameter's node in the autograd graph stays on the stream that made it,
            # and a wait for another stream ends a recording.
            with _quietly(), torch.cuda.stream(stream):
                for _ in range(2):
                    states = self._own(**_empty_row(size, self._longest, device), use_cache=False).last_hidden_state
                    torch.autograd.grad(states, self._learnt, torch.ones_like(states))
            del states
            torch.cuda.synchronize()
            gc.collect()
            torch.cuda.empty_cache()
        row = _empty_row(size, self._longest, device)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        # Other threads read the GPU's state meanwhile (building/gauge.py), and may.
        options: Any = {"pool": self._pool, "stream": stream, "capture_error_mode": "thread_local"}
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with _quietly():
            with torch.cuda.graph(forward, **options):
                hidden = self._own(**row, use_cache=False).last_hidden_state
                self.hidden[:, :size].copy_(hidden.detach())
            with torch.cuda.graph(backward, **options):
                parts = torch.autograd.grad(hidden, self._learnt, self.slope[:, :size])
                torch._foreach_add_(self._sums, parts)
        del parts
        self._graphs[size] = _Recorded(forward=forward, backward=backward, row=row, size=size)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, decoder: GraphedDecoder, graph: _Recorded) -> Tensor:
        ctx.decoder, ctx.graph = decoder, graph
        graph.forward.replay()
        return decoder.hidden[:, : graph.size]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ctx.decoder.slope[:, : ctx.graph.size].copy_(gradients[0])
        ctx.decoder.prepare()
        ctx.graph.backward.replay()
        ctx.decoder.collect()
        return None, None, None


def slots(size: int) -> int:
    """Ends of examples that a row of `size` tokens has room for, the zero in front and the filling included."""
    return 8 + size // 96


def _empty_row(size: int, longest: int, device: torch.device) -> dict[str, Any]:
    ends = torch.full((slots(size) + 1,), size, dtype=torch.int32, device=device)
    ends[0] = 0
    places = torch.arange(size, device=device)
    for i, start in enumerate(range(0, size, longest)):
        ends[i] = start
        places[start : start + longest] -= start
    return {
        "input_ids": torch.zeros(1, size, dtype=torch.long, device=device),
        "position_ids": places[None],
        "attention_mask": torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device),
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _fill(own: dict[str, Any], row: dict[str, Any]) -> None:
    """Write a row into the place that a graph reads; what is left over is cut into examples of its own."""
    size, count = own["input_ids"].shape[1], row["input_ids"].shape[1]
    own["input_ids"].zero_()
    own["input_ids"][:, :count] = row["input_ids"]
    own["position_ids"].zero_()
    own["position_ids"][:, :count] = row["position_ids"]
    ends, given = own["cu_seq_lens_q"], row["cu_seq_lens_q"]
    ends.fill_(size)
    ends[: len(given)] = given


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without autocast, whose cache of cast weights must not outlive a recording."""
    with torch.autocast("cuda", enabled=False):
        yield
