"""Personal data in a text: e-mail addresses, phone numbers, bank accounts and payment cards, each by its own proof.

What carries a checksum or a numbering plan is checked against it, because manuals are full of long numbers that are
none of these: part numbers, parameters, serial numbers. Names and postal addresses are not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

EMAIL, PHONE, IBAN, CARD = "e-mail", "phone", "IBAN", "card"
KINDS = (EMAIL, PHONE, IBAN, CARD)

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![\w-])"
)
# Two letters, two check digits, then up to 30 letters and digits, alone or in printed groups of four.
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w]|[.,-]\d)")
_CARD_FORMS = (
    re.compile(r"\d{13,19}"),
    re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}"),
    re.compile(r"\d{4}([ -])\d{6}\1\d{4,5}"),
)
# Issuers by the first digits, and the lengths that they give out (ISO/IEC 7812 and the issuers' public ranges).
_ISSUERS = re.compile(
    r"(?:4(?:\d{12}|\d{15}|\d{18})"
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:6011|65\d{2}|64[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17})"
)
# A number in its international form proves itself; one in a national form only where a word says what it is.
_INTERNATIONAL = re.compile(r"(?<![\w+])(?:\+|00(?=[1-9]))\d(?:[ ./()-]{0,2}\d){6,14}(?![\w]|[.,]\d)")
_NATIONAL = re.compile(
    r"\b(?:tel(?:efon|ephone)?|phone|call|fax|telefax|mobile?|mobil(?:nummer)?|cell|handy|hotline|rufnummer|durchwahl)"
    r"(?:\s*(?:no|nr|number|nummer|us|at))?\s*[.:]{0,2}\s*(?P<number>\(?0?\d(?:[ ./()-]{0,2}\d){6,13})(?![\w]|[.,]\d)",
    re.IGNORECASE,
)
_REGIONS = {"de": ("DE", "AT", "CH"), "en": ("US", "GB")}


def find_personal(text: str, language: str = "") -> tuple[tuple[str, int, int], ...]:
    """Every finding as (kind, start, end) in characters of `text`, in order and without overlap.

    `language` (two letters) decides which countries' numbering plans hold for phone numbers in national form, which
    count only after a word such as "Tel."; without it those of both languages are tried. Phone numbers are valid by
    `phonenumbers`, IBANs by `schwifty`, cards by the Luhn sum, a known issuer and the printed grouping.
    """
    if "@" not in text and not _many_digits(text):
        return ()
    found: list[tuple[str, int, int]] = []
    for kind, start, end in (*_emails(text), *_ibans(text), *_cards(text), *_phones(text, language)):
        if all(end <= before or start >= after for _, before, after in found):
            found.append((kind, start, end))
    return tuple(sorted(found, key=lambda one: one[1:]))


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of those before it (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _many_digits(text: str) -> bool:
    return sum(letter.isdigit() for letter in text) >= 6


def _emails(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _EMAIL.finditer(text):
        yield EMAIL, match.start(), match.end()


def _ibans(text: str) -> Iterator[tuple[str, int, int]]:
    from schwifty import IBAN as Iban

    for match in _IBAN.finditer(text):
        # What follows in capitals may have been taken along: the country says how long the number is.
        for end in _ends(text, match):
            if Iban(text[match.start() : end], allow_invalid=True).is_valid:
                yield IBAN, match.start(), end
                break


def _ends(text: str, match: re.Match[str]) -> Iterator[int]:
    yield match.end()
    for at in range(match.end() - 1, match.start() + 14, -1):
        if text[at] == " ":
            yield at


def _cards(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _CARD.finditer(text):
        written = match.group()
        digits = re.sub(r"\D", "", written)
        printed = any(form.fullmatch(written) for form in _CARD_FORMS)
        if printed and _ISSUERS.fullmatch(digits) and len(set(digits)) > 1 and luhn(digits):
            yield CARD, match.start(), match.end()


def _phones(text: str, language: str) -> Iterator[tuple[str, int, int]]:
    regions = _REGIONS.get(language, tuple(region for own in _REGIONS.values() for region in own))
    candidates: list[tuple[int, int, tuple[str, ...]]] = []
    candidates += [(*match.span(), ("ZZ",)) for match in _INTERNATIONAL.finditer(text)]
    candidates += [(*match.span("number"), regions) for match in _NATIONAL.finditer(text)]
    for start, end, plans in candidates:
        written = re.sub(r"^00", "+", text[start:end])
        if any(_valid(written, region) for region in plans):
            yield PHONE, start, end


def _valid(written: str, region: str) -> bool:
    from phonenumbers import NumberParseException, is_valid_number, parse

    try:
        return is_valid_number(parse(written, None if region == "ZZ" else region))
    except NumberParseException:
        return False
