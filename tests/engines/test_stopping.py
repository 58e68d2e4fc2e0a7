from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from werkmeister.engines.stopping import StopTexts

LETTERS = st.text("ab", max_size=12)


@given(st.lists(st.text("ab", max_size=3), max_size=10), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_pieces_give_the_text_up_to_the_first_stop_text(pieces, stop):
    texts = StopTexts(stop)
    shown, stopped, given_so_far = "", False, ""
    for piece in pieces:
        given_so_far += piece
        sure, stopped = texts.push(piece)
        shown += sure
        if stopped:
            break
    else:
        shown += texts.rest()
    ends = [given_so_far.index(text) for text in stop if text in given_so_far]
    assert stopped == bool(ends)
    assert shown == (given_so_far[: min(ends)] if ends else given_so_far)


def test_only_what_may_become_a_stop_text_is_held_back():
    texts = StopTexts(("xyz",))
    assert [texts.push(piece)[0] for piece in "axybxy"] == ["a", "", "", "xyb", "", ""]
    assert texts.push("zq") == ("", True)
