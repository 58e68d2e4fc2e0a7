"""The loss in pieces against PyTorch's own cross entropy and autograd."""

import pytest
import torch

from werkmeister.building.answer_loss import AnswerLoss


def case(rows: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(rows)
    head = torch.nn.Linear(24, 301, bias=False, dtype=dtype).requires_grad_(False)
    hidden = (4 * torch.randn(rows, 24)).to(dtype).requires_grad_(True)
    return hidden, head, torch.randint(0, 301, (rows,)), torch.tensor(rows + 7)


def reference(
    hidden: torch.Tensor, head: torch.nn.Linear, labels: torch.Tensor, count: torch.Tensor, cap: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient in float64."""
    exact = hidden.detach().double().requires_grad_(True)
    logits = exact @ head.weight.double().t()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / count
    loss.backward()
    assert exact.grad is not None
    return loss.detach(), exact.grad


@pytest.mark.parametrize("cap", [0.0, 5.0])
@pytest.mark.parametrize("rows", [1, 127, 128, 129, 300])
def test_loss_and_gradient_are_those_of_pytorch(rows: int, cap: float) -> None:
    hidden, head, labels, count = case(rows, torch.float32)
    loss = AnswerLoss()(hidden, head, labels, count, cap)
    (3 * loss).backward()
    exact, gradient = reference(hidden, head, labels, count, cap)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hidden.grad.double(), 3 * gradient, rtol=1e-4, atol=1e-7)


def test_in_bfloat16_it_is_no_less_exact_than_pytorch() -> None:
    hidden, head, labels, count = case(300, torch.bfloat16)
    ours = AnswerLoss()(hidden, head, labels, count, 0.0)
    ours.backward()
    other = hidden.detach().clone().requires_grad_(True)
    (torch.nn.functional.cross_entropy(head(other).float(), labels, reduction="sum") / count).backward()
    exact, gradient = reference(hidden, head, labels, count, 0.0)
    torch.testing.assert_close(ours.double(), exact, rtol=3e-3, atol=0)
    error, usual = ((found.grad.double() - gradient).norm() for found in (hidden, other))
    assert error <= 1.05 * usual


def test_a_head_with_a_bias_or_one_that_learns_goes_the_ordinary_way() -> None:
    hidden, _, labels, count = case(9, torch.float32)
    learning = torch.nn.Linear(24, 301)
    AnswerLoss()(hidden, learning, labels, count, 0.0).backward()
    assert learning.weight.grad is not None and learning.bias.grad is not None
    expected = torch.nn.functional.cross_entropy(learning(hidden), labels, reduction="sum") / count
    torch.testing.assert_close(AnswerLoss()(hidden, learning, labels, count, 0.0), expected)


def test_logits_of_a_whole_step_never_stand_in_memory() -> None:
    """The largest tensor that a step makes is one piece, however many rows it has."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        values = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                self.values = max(self.values, made.numel())
            return made

    hidden, head, labels, count = case(1000, torch.float32)
    with Largest() as seen:
        AnswerLoss()(hidden, head, labels, count, 0.0).backward()
    assert 0 < seen.values <= 128 * 301


def test_what_a_step_leaves_in_the_buffers_does_not_reach_the_next() -> None:
    loss = AnswerLoss()
    first, head, labels, count = case(300, torch.float32)
    loss(first, head, labels, count, 0.0)
    second, _, fewer, _ = case(40, torch.float32)
    found = loss(second, head, fewer, count, 0.0)
    found.backward()
    exact, gradient = reference(second, head, fewer, count, 0.0)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.grad.double(), gradient, rtol=1e-4, atol=1e-7)
