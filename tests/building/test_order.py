"""The order of training."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from werkmeister.building.order import padding_share, training_order

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
