"""The loss of the answers computed inside the model's own forward, where every wrapper around the model sees it.

DistributedDataParallel and FSDP exchange gradients and parameters in the forward of the module that they wrap: a loss
that calls the decoder inside directly trains each process for itself, and nothing tells.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from werkmeister.building.answer_loss import AnswerLoss

Answers = tuple[Tensor, Tensor, Tensor | None]
"""Labels (batch, tokens) with −100 where nothing is learnt; what the loss is divided by; weights like the labels."""
_KEPT_BACK = ("labels", "return_dict")


def answer_in_forward(model: Any) -> None:
    """Let a PEFT model be called with `answers=`: it returns their loss (a scalar) and makes no other logits.

    Without that keyword its forward is what it was.
    """
    causal = model.get_base_model()
    plain, loss = causal.forward, AnswerLoss()
    cap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None) or 0.0

    @functools.wraps(plain)
    def forward(*args: Any, answers: Answers | None = None, **kwargs: Any) -> Any:
        if answers is None:
            return plain(*args, **kwargs)
        inputs = {name: value for name, value in kwargs.items() if value is not None and name not in _KEPT_BACK}
        hidden = causal.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        labels, count, weights = answers
        wanted = labels[:, 1:]
        learnt = wanted != -100
        own = None if weights is None else weights[:, 1:][learnt]
        return loss(hidden[learnt], causal.get_output_embeddings(), wanted[learnt], count, cap, own)

    causal.forward = forward
