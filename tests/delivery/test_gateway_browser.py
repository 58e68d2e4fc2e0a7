"""The chat page in a real browser over the real gateway."""

from __future__ import annotations

import time

import pytest

from tests.delivery.browser import Browser
from tests.delivery.running import expert, running
from werkmeister.consulting.finding import Finding
from werkmeister.delivery.guard import Door
from werkmeister.delivery.keys import Keys, new_key
from werkmeister.engines.engine import Sampling
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.passage import Passage

pytestmark = pytest.mark.slow
READY = "document.querySelector('#state').dataset.state === 'ready'"
TEXT = "document.querySelector('.turn.assistant:last-child .text').textContent"
ANSWER = "Tighten the four screws crosswise to 12 Nm. Paint them green."
SOURCE = "Mount the lid. Tighten the four screws crosswise to 12 Nm. Then fill in the oil."
PASSAGE = Passage(
    id="1" * 16, document="pump.pdf", title="Pump", headings=("Lid",), text=SOURCE, start=0, end=len(SOURCE)
)


class Shelf:
    def find(self, question, history):
        return Finding(passages=(PASSAGE,))


def smith():
    """An expert that takes its time, with a document."""
    engine = ScriptedEngine({}, otherwise=ANSWER, seconds_a_token=0.1)
    return expert(engine, library=Shelf(), sampling=Sampling(max_tokens=60))


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    opened.look(width=1200)
    yield opened
    opened.close()


def put(page, question):
    page.run("document.querySelector('#question').focus()")
    page.call("Input.insertText", text=question)
    page.press("Enter")


def answered(page, count):
    page.wait(f"{READY} && document.querySelectorAll('.turn.assistant .foot').length === {count}")


def test_a_question_is_answered_word_by_word_with_its_source_and_a_reload_keeps_it(browser):
    with running(smith()) as gateway:
        browser.open(f"{gateway.url}/")
        browser.wait(READY)
        assert browser.text("#name") == "smith"
        put(browser, "How are the screws tightened?")
        browser.wait(f"0 < {TEXT}.length && {TEXT}.length < {len(ANSWER)}")
        answered(browser, 1)
        assert browser.run(TEXT) == ANSWER
        assert browser.text(".sources > summary") == "1 source"
        assert browser.text(".turn .note.bad") == "Found in no source: “Paint them green.”"
        browser.click(".sources details summary")
        assert browser.text(".sources mark") == "Tighten the four screws crosswise to 12 Nm"
        browser.reload()
        browser.wait(READY)
        assert browser.run(TEXT) == ANSWER
        put(browser, "And then?")
        answered(browser, 2)
        roles = [turn.role for turn in gateway.gateway.expert.engine.asked[-1][0]]
        assert roles == ["system", "user", "assistant", "user"]
        browser.click("#state")
        browser.wait("document.querySelector('#dialog').open")
        assert "abc123" in browser.text("#dialog")
        browser.press("Escape")
    assert browser.errors == []


def test_escape_stops_the_work_at_the_gateway(browser):
    engine = ScriptedEngine({}, otherwise="word " * 400, seconds_a_token=0.05)
    with running(expert(engine, sampling=Sampling(max_tokens=1000))) as gateway:
        browser.open(f"{gateway.url}/")
        browser.wait(READY)
        put(browser, "Tell me everything")
        browser.wait(f"{TEXT}.length > 10")
        assert gateway.metric("running") == 1
        browser.press("Escape")
        browser.wait("document.querySelector('.turn.assistant .note')?.textContent === 'Stopped.'")
        end = time.monotonic() + 10
        while gateway.metric("running") and time.monotonic() < end:
            time.sleep(0.02)
        assert gateway.metric("running") == 0 and gateway.metric("cancelled_total") == 1
    assert browser.errors == []


def test_a_gateway_with_keys_shows_the_page_and_answers_when_the_key_is_right(browser, tmp_path):
    key = new_key(tmp_path, "anna")
    door = Door(keys=Keys(tmp_path), keys_needed=True, hosts=())
    asks = "document.querySelector('#dialog').open && document.activeElement.type === 'password'"
    with running(smith(), door=door) as gateway:
        browser.open(f"{gateway.url}/")
        browser.wait(asks)
        browser.call("Input.insertText", text="wm-wrong")
        browser.press("Enter")
        browser.wait("Object.values(sessionStorage).includes('wm-wrong')")
        put(browser, "How are the screws tightened?")
        browser.wait(asks)
        assert gateway.gateway.expert.engine.asked == []
        browser.call("Input.insertText", text=key)
        browser.press("Enter")
        browser.wait(f"Object.values(sessionStorage).includes({key!r})")
        browser.run("[...document.querySelectorAll('.foot button')].at(-1).click()")
        browser.wait(f"{READY} && {TEXT} === {ANSWER!r}")
        assert browser.run("JSON.stringify(localStorage)").count(key) == 0
    assert [error for error in browser.errors if "401" not in error] == []
    browser.errors.clear()


def tab_to(page, selector):
    """Press Tab until the focus is on it, as somebody without a mouse does."""
    for _ in range(80):
        if page.run(f"document.activeElement.matches({selector!r})"):
            return
        page.press("Tab")
    raise AssertionError(f"the keyboard does not reach {selector}")


def test_the_keyboard_alone_asks_opens_a_source_switches_the_language_reloads_and_goes_on(browser):
    browser.run("localStorage.clear()")
    with running(smith()) as gateway:
        browser.open(f"{gateway.url}/")
        browser.wait(READY)
        tab_to(browser, "#question")
        browser.call("Input.insertText", text="How are the screws tightened?")
        browser.press("Enter")
        answered(browser, 1)
        browser.run("document.activeElement.blur()")
        tab_to(browser, ".sources details summary")
        browser.press("Enter")
        browser.wait("document.querySelector('.sources details').open")
        assert browser.text(".sources mark") == "Tighten the four screws crosswise to 12 Nm"
        english = browser.text(".sources > summary")
        tab_to(browser, "#language")
        browser.press("Enter")
        browser.wait("document.documentElement.lang === 'de'")
        assert browser.text(".sources > summary") != english == "1 source"
        assert browser.run(TEXT) == ANSWER, "what was said stays as it was said"
        browser.reload()
        browser.wait(READY)
        assert browser.run("document.documentElement.lang") == "de" and browser.run(TEXT) == ANSWER
        tab_to(browser, "#question")
        browser.call("Input.insertText", text="Und dann?")
        browser.press("Enter")
        answered(browser, 2)
        tab_to(browser, "#rename")
        browser.press("Enter")
        browser.wait("document.querySelector('#dialog').open")
        browser.call("Input.insertText", text="Schrauben")
        browser.press("Enter")
        browser.wait("document.querySelector('#title').textContent === 'Schrauben'")
        tab_to(browser, "#remove")
        browser.press("Enter")
        browser.wait("document.querySelector('#dialog').open")
        tab_to(browser, "#dialog-yes")
        browser.press("Enter")
        browser.wait("document.querySelectorAll('.turn').length === 0")
        assert "Schrauben" not in browser.run("JSON.stringify(localStorage)")
        browser.run("localStorage.clear()")
    assert browser.errors == []


def test_turns_that_no_longer_fit_are_left_out_and_the_page_says_so(browser):
    engine = ScriptedEngine({}, otherwise="One two three four five six seven eight.", context_length=60)
    with running(expert(engine, sampling=Sampling(max_tokens=20))) as gateway:
        browser.open(f"{gateway.url}/")
        browser.wait(READY)
        for count in range(1, 5):
            put(browser, f"Question number {count} of a longer talk?")
            answered(browser, count)
        note = browser.text(".turn.assistant:last-child .note")
        assert "oldest turn" in note and "60" in note
        assert len(engine.asked[-1][0]) < 8, "system, turns, question: the oldest are gone"
    assert browser.errors == []
