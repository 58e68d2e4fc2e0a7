import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from werkmeister.corpus.writing.figures import figures, missing_figures


def test_figures_are_numbers_and_codes_as_they_are_written():
    text = "ZW100 at 0x25, E-14; 0–255 seconds, -5 °C, M8x1.25, axis.0.joint-pos, USB HAL_PIN 1,5 v2.9.0."
    assert figures(text) == [
        *("ZW100", "0x25", "E-14", "0-255", "-5", "M8x1.25", "0", "USB", "HAL_PIN", "1,5", "v2.9.0"),
    ]


@pytest.mark.parametrize(
    ("answer", "source"),
    [
        ("0–255 seconds", "from 0 to 255 sec"),
        ("30s", "30 s"),
        ("30 s", "30s."),
        ("Error E-14", "e-14"),
        ("ZW100", "the ZW100-A"),
        ("-5 °C", "at −5 °C"),
        ("12", "… 12."),
        ("3", "1, 2, 3."),
        ("5 V", "5V supply"),
        ("M8x1.25", "M8×1.25"),
        ("10 in the box", "10"),
        ("5 A", "5 amps"),
        ("Parameter-13", "parameter 13"),
        ("30 Sekunden", "30 s"),
        ("pin-09-out", "parport.0.pin-09-out"),
        ("Turn it 90° clockwise", "turn by 90° clockwise"),
        ("Turn it 90 degrees", "turn by 90°"),
        ("0.1 %rH", "0.1 %rH"),
        ("30 °С", "at 30 °С"),
        ("no figure at all", ""),
    ],
)
def test_what_the_source_says_in_other_writing_is_not_missing(answer, source):
    assert missing_figures(answer, source) == []


@pytest.mark.parametrize(
    ("answer", "source", "missing"),
    [
        ("30 minutes", "30 seconds", ["minutes"]),
        ("5", "0.5", ["5"]),
        ("5", "15 or 50", ["5"]),
        ("5", "ZW5", ["5"]),
        ("6.5", "6,5", ["6.5"]),
        ("E-14", "E14 and 14", ["E-14"]),
        ("ZW100", "ZW1000", ["ZW100"]),
        ("0 to 10 and 0 to 10", "0", ["10"]),
        ("0-255", "0 and 250", ["0-255"]),
        ("Set the LED", "Set the lamp", ["LED"]),
        ("12 mV", "12 V", ["mv"]),
    ],
)
def test_what_the_source_does_not_say_is_named(answer, source, missing):
    assert missing_figures(answer, source) == missing


WORDS = st.lists(
    st.one_of(
        st.integers(0, 999).map(str),
        st.sampled_from(["press", "button", "0x25", "ZW-100", "5 s", "1.5 bar", "°C", "12/24 V", "3–5 mm", "a)"]),
    ),
    max_size=12,
).map(" ".join)


@given(WORDS, WORDS, WORDS)
def test_a_quoted_answer_never_misses_a_figure(before, answer, after):
    assert missing_figures(answer, f"{before} {answer} {after}") == []


@given(WORDS, st.integers(1000, 99999))
def test_a_number_that_is_nowhere_is_always_missed(source, number):
    assume(str(number) not in source)
    assert missing_figures(f"It is {number}.", source) == [str(number)]
