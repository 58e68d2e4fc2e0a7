import random

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schwifty import IBAN

from werkmeister.governing.personal import CARD, EMAIL, PHONE, find_personal, luhn
from werkmeister.governing.personal import IBAN as BANK


def found(text: str, language: str = "") -> list[tuple[str, str]]:
    return [(kind, text[start:end]) for kind, start, end in find_personal(text, language)]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (
            "Write to max.mustermann+pump@service.example-firma.de.",
            EMAIL,
            "max.mustermann+pump@service.example-firma.de",
        ),
        ("<a_b@c.museum>", EMAIL, "a_b@c.museum"),
        ("Tel.: 030 901820", PHONE, "030 901820"),
        ("Call +49 30 901820.", PHONE, "+49 30 901820"),
        ("Rufen Sie 0049 30 901820 an", PHONE, "0049 30 901820"),
        ("Phone (415) 555-2671, ask for Ann", PHONE, "(415) 555-2671"),
        ("IBAN DE89 3704 0044 0532 0130 00 BIC", BANK, "DE89 3704 0044 0532 0130 00"),
        ("to GB82WEST12345698765432.", BANK, "GB82WEST12345698765432"),
        ("Card 4111 1111 1111 1111", CARD, "4111 1111 1111 1111"),
        ("amex 378282246310005 ok", CARD, "378282246310005"),
        ("3782 822463 10005", CARD, "3782 822463 10005"),
    ],
)
def test_what_is_personal_is_found_where_it_stands(text, kind, words):
    assert found(text) == [(kind, words)]


@pytest.mark.parametrize(
    "text",
    [
        "Part 4111111111111111-2 fits the 4111111111111112 pump.",
        "Parameter 1234567890123 = 4",
        "ISBN 978-3-16-148410-0",
        "Serial 1234 5678 9012 3456 and 0000 0000 0000 0000",
        "version 1.2.3.4.5.6.7.8.9 of 2026-11-24 10:00:00",
        "192.168.100.200/24, 0x0086:0x0102:0x0064",
        "Torque 4111111111111111.5 Nm",
        "the default is 4294967295 ms, range 0 to 4294967295",
        "call 123456 times; see page 0301234567",
        "DE89 3704 0044 0532 0130 01 is no account",
        "@home, user@, a@b, pins 3@4.5",
        "+5 V and +12 1500 4000",
        "G0 X10.0000 Y20.0000 Z30.0000 F1000",
        "(415) 555-2671",
    ],
)
def test_numbers_of_manuals_are_not_taken_for_persons(text):
    assert found(text) == []


def test_national_numbers_follow_the_plan_of_the_language():
    german = "Telefon: 030 901820"
    assert found(german, "de") == [(PHONE, "030 901820")]
    assert found(german, "en") == []


def test_several_findings_come_in_order_and_do_not_overlap():
    text = "Fax +49 30 901820, a@example.org, IBAN DE89370400440532013000"
    assert [kind for kind, _, _ in find_personal(text)] == [PHONE, EMAIL, BANK]


@given(st.text(alphabet="0123456789", min_size=1, max_size=18))
def test_the_luhn_digit_is_the_only_one_that_fits(digits):
    assert sum(luhn(digits + last) for last in "0123456789") == 1


def test_luhn_agrees_with_the_published_examples():
    assert luhn("79927398713")
    assert not any(luhn(f"7992739871{last}") for last in "012456789")


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["DE", "AT", "CH", "NL", "FR", "ES", "GB", "BE"]), st.integers(0, 10**6), st.booleans())
def test_every_valid_iban_is_found_and_one_with_a_changed_digit_is_not(country, seed, grouped):
    random.seed(seed)
    iban = IBAN.random(country_code=country)
    written = iban.formatted if grouped else str(iban)
    assert (BANK, written) in found(f"Pay to {written} now")
    changed = str(iban)[:2] + f"{(int(str(iban)[2:4]) + 1) % 100:02}" + str(iban)[4:]
    assert not any(kind == BANK for kind, _ in found(f"Pay to {changed} now"))


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["DE", "AT", "CH", "US", "GB", "FR", "IT"]), st.sampled_from(["INTERNATIONAL", "E164"]))
def test_every_countrys_example_number_is_found_in_international_form(region, form):
    number = phonenumbers.example_number(region)
    written = phonenumbers.format_number(number, getattr(phonenumbers.PhoneNumberFormat, form))
    assert found(f"Our number: {written}") == [(PHONE, written)]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789 .,:-+()/@aDE", max_size=60))
def test_any_text_gives_ordered_findings_within_it(text):
    places = [(start, end) for _, start, end in find_personal(text)]
    flat = [at for place in places for at in place]
    assert flat == sorted(flat)
    assert all(0 <= start < end <= len(text) for start, end in places)
