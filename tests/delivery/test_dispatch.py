from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from werkmeister.delivery.dispatch import Dispatcher, Draining, Full, Ticket


class Held:
    """A dispatcher of one slot that is held until `go`; `order` is who ran after that."""

    def __init__(self, capacity=100):
        self.dispatcher = Dispatcher(1, capacity)
        self.order, self.dropped = [], []
        self.gate, self.inside = threading.Event(), threading.Event()
        self.dispatcher.submit(Ticket("holder", self.hold, self.dropped.append))
        assert self.inside.wait(5)

    def hold(self):
        self.inside.set()
        self.gate.wait(10)

    def add(self, client, name=""):
        ticket = Ticket(client, lambda: self.order.append(name or client), lambda e: self.dropped.append((client, e)))
        self.dispatcher.submit(ticket)
        return ticket

    def go(self):
        self.gate.set()
        while self.dispatcher.running or self.dispatcher.waiting:
            threading.Event().wait(0.002)
        self.dispatcher.close()
        return self.order


def test_clients_take_turns_however_many_each_has_sent():
    held = Held()
    for client in ["a"] * 5 + ["b"] * 2 + ["c"]:
        held.add(client)
    assert held.go() == ["a", "b", "c", "a", "b", "a", "a", "a"]


def test_one_clients_requests_keep_their_order():
    held = Held()
    for number in range(6):
        held.add("a", f"a{number}")
    assert held.go() == [f"a{number}" for number in range(6)]


def test_beyond_the_capacity_it_is_full_and_says_when_to_come_back():
    held = Held(capacity=3)
    for _ in range(3):
        held.add("a")
    with pytest.raises(Full) as caught:
        held.add("a")
    assert 1 <= caught.value.retry_after <= 60
    assert held.go() == ["a"] * 3


def test_a_newcomer_takes_the_last_place_of_whoever_holds_most():
    held = Held(capacity=3)
    for number in range(3):
        held.add("hog", f"hog{number}")
    held.add("b")
    assert [client for client, _ in held.dropped] == ["hog"] and isinstance(held.dropped[0][1], Full)
    with pytest.raises(Full):
        held.add("b")
    assert held.go() == ["hog0", "b", "hog1"]


def test_no_waiting_place_means_run_at_once_or_not_at_all():
    held = Held(capacity=0)
    with pytest.raises(Full):
        held.add("a")
    held.go()


def test_a_withdrawn_ticket_never_runs():
    held = Held()
    ticket = held.add("a")
    held.add("b")
    assert held.dispatcher.withdraw(ticket) and not held.dispatcher.withdraw(ticket)
    assert held.go() == ["b"]


def test_draining_finishes_what_runs_drops_what_waits_and_takes_nothing():
    held = Held()
    held.add("a")
    held.dispatcher.drain()
    assert [client for client, _ in held.dropped] == ["a"] and isinstance(held.dropped[0][1], Draining)
    with pytest.raises(Draining):
        held.add("b")
    assert held.dispatcher.running == 1
    assert held.go() == []


def test_work_that_raises_frees_its_slot():
    held = Held()

    def broken():
        raise ZeroDivisionError

    held.dispatcher.submit(Ticket("a", broken, held.dropped.append))
    held.add("b")
    assert held.go() == ["b"]


@settings(max_examples=40, deadline=None)
@given(sent=st.lists(st.sampled_from("abcd"), max_size=30), capacity=st.integers(1, 12))
def test_nothing_is_lost_nobody_starves_and_the_bound_holds(sent, capacity):
    held = Held(capacity)
    refused = 0
    for client in sent:
        try:
            held.add(client)
        except Full:
            refused += 1
        assert held.dispatcher.waiting <= capacity
    order = held.go()
    assert len(order) + len(held.dropped) + refused == len(sent)
    rounds = {client: [i for i, c in enumerate(order) if c == client] for client in set(order)}
    for places in rounds.values():
        # Between two turns of one client every other has at most one.
        for first, second in pairwise(places):
            between = order[first + 1 : second]
            assert len(between) == len(set(between))
