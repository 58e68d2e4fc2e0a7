"""The order of training."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from werkmeister.building.order import padding_share, training_order
from werkmeister.building.recipe import width_step

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 4), st.integers(1, 32), st.integers(0, 5))
def test_every_epoch_sees_every_example_once(lengths, epochs, batch, seed) -> None:
    order = training_order(lengths, epochs=epochs, batch_size=batch, seed=seed)
    for epoch in range(epochs):
        assert sorted(order[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))


@given(LENGTHS, st.floats(0.1, 3.0), st.integers(1, 32), st.integers(0, 5))
def test_a_share_of_an_epoch_sees_that_share_and_the_order_is_fixed_by_the_seed(lengths, epochs, batch, seed) -> None:
    order = training_order(lengths, epochs=epochs, batch_size=batch, seed=seed)
    assert len(order) == max(1, round(epochs * len(lengths)))
    assert order == training_order(lengths, epochs=epochs, batch_size=batch, seed=seed)
    assert max(Counter(order).values()) <= epochs + 1


def test_batches_of_like_length_pad_less_than_the_order_of_the_file() -> None:
    lengths = [10 + (37 * i) % 91 for i in range(2000)]
    order = training_order(lengths, epochs=1, batch_size=16, seed=0)
    assert padding_share(lengths, order, 16) < 0.1 * padding_share(lengths, range(2000), 16)


@given(st.integers(1, 200_000))
def test_on_a_cpu_there_are_at_most_32_lengths_of_batches_whatever_the_examples(longest: int) -> None:
    step = width_step(longest)
    assert -(-longest // step) <= 32
    assert step == 4 or -(-longest // (step - 4)) > 32, "a smaller step would do"


def test_padding_counts_what_fills_up_to_the_step() -> None:
    assert padding_share([10, 9, 3, 1], [0, 1, 2, 3], 2, 4) == 1 - 23 / (2 * 12 + 2 * 4)
