"""The review page in a real browser: keyboard, phone, dark colours, screen reader."""

import re
import threading

import pytest

from tests.corpus.written_files import records_of, write_artefacts
from tests.delivery.browser import Browser
from werkmeister.corpus.decisions import load_decisions
from werkmeister.corpus.written import read_written
from werkmeister.delivery.review import ReviewServer
from werkmeister.delivery.review_session import ReviewSession

pytestmark = pytest.mark.slow
PAIRS, DROPPED = records_of(12)


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def page(tmp_path, browser):
    """The page of a fresh expert, and the folder of its decisions."""
    written = read_written(*write_artefacts(tmp_path / "artefacts", 12))
    server = ReviewServer(ReviewSession(tmp_path, written))
    thread = threading.Thread(target=server.run)
    thread.start()
    browser.errors.clear()
    browser.look(width=1300)
    browser.open(server.url)
    browser.wait("document.querySelector('#question')?.textContent")
    yield browser
    assert browser.errors == []
    browser.open("about:blank")
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


def decided(page: Browser, count: int) -> None:
    page.wait(f"document.querySelector('#count').textContent.startsWith('{count} ')")


def position(page: Browser, at: int) -> None:
    page.wait(f"document.querySelector('#position').textContent.startsWith('{at} ')")


def test_a_person_decides_with_the_keyboard_alone(page, tmp_path):
    assert page.text("#question") == PAIRS[0]["question"]
    assert "Pressure: 3 bar" in page.text("#passage mark")
    assert "Flow" not in page.text("#passage mark")
    page.press("k")
    decided(page, 1)
    position(page, 2)
    page.press("e")
    page.wait("document.activeElement.id === 'new-answer'")
    page.press("d")  # a letter in the editor is text, and no decision
    assert page.run("document.activeElement.value") == PAIRS[1]["answer"] + "d"
    page.fill("#new-answer", "three <b>bar</b>")
    page.press("Enter", ctrl=True)
    decided(page, 2)
    position(page, 3)
    page.press("d")
    decided(page, 3)
    page.press("ArrowRight")
    position(page, 5)
    page.press("ArrowLeft")
    position(page, 4)
    page.press("u")
    decided(page, 2)
    position(page, 3)
    page.press("ArrowLeft")
    position(page, 2)
    assert page.text("#answer") == "three <b>bar</b>"
    assert page.text("#was-text").endswith(PAIRS[1]["answer"])
    force = load_decisions(tmp_path).of
    assert [(d.verdict, d.new_answer) for d in force.values()] == [("keep", ""), ("edit", "three <b>bar</b>")]


def test_fast_keys_are_done_in_order_and_none_is_lost(page, tmp_path):
    for key in "kkdkd":
        page.press(key)
    decided(page, 5)
    force = load_decisions(tmp_path).of
    assert [force[record["id"]].verdict for record in PAIRS[:5]] == ["keep", "keep", "drop", "keep", "drop"]


def test_a_page_loaded_again_goes_on_where_the_person_was(page):
    for key in "kk":
        page.press(key)
    decided(page, 2)
    page.press("ArrowRight")
    position(page, 4)
    page.reload()
    position(page, 4)
    page.run("history.replaceState(null, '', '#')")
    page.reload()
    position(page, 3)


def test_a_dropped_pair_is_found_with_its_reason_and_rescued(page, tmp_path):
    page.fill("[name=state]", "dropped")
    page.wait("document.querySelector('#turned-down').offsetHeight")
    assert DROPPED[0]["reason"] in page.text("#turned-down")
    assert page.text("#position") == "1 of 12"
    page.fill("#note", "stands in the drawing")
    page.click("#keep")
    decided(page, 1)
    kept = load_decisions(tmp_path).of[DROPPED[0]["id"]]
    assert (kept.verdict, kept.note) == ("keep", "stands in the drawing")


def test_the_list_pages_through_many_pairs_and_opens_one(page):
    page.click("#many")
    page.wait("document.querySelectorAll('#list li').length === 50")
    page.click("#more")
    page.wait("document.querySelectorAll('#list li').length === 100")
    page.click("#list li:nth-child(60) button")
    position(page, 60)
    assert page.text("#question") == PAIRS[59]["question"]


def test_a_decision_that_cannot_be_saved_is_shown_and_the_pair_stays(page, tmp_path):
    (tmp_path / "decisions.jsonl").mkdir()
    page.press("k")
    page.wait("!document.querySelector('#failure').hidden")
    assert page.text("#failure").startswith("Not saved: ")
    assert page.text("#position") == "1 of 108"
    (tmp_path / "decisions.jsonl").rmdir()
    page.press("k")
    decided(page, 1)
    assert page.run("document.querySelector('#failure').hidden")
    page.errors[:] = [error for error in page.errors if "507" not in error]


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_phone_and_the_dark_show_it_whole_and_readable(page, language):
    page.open(page.run("location.href").split("#")[0] + f"?lang={language}")
    page.wait(f"document.documentElement.lang === '{language}' && document.querySelector('#question').textContent")
    for dark in (False, True):
        page.look(width=390, dark=dark)
        assert page.run("document.documentElement.scrollWidth") <= 390
        ends = page.run("[...document.querySelectorAll('button')].map((b) => b.getBoundingClientRect().right)")
        assert max(ends) <= 390
        heights = page.run("[...document.querySelectorAll('#deciding button')].map((b) => b.offsetHeight)")
        assert min(heights) >= 44
        for selector in ("#question", "#passage mark", "#keep", "#edit", "#drop", ".soft", "#place"):
            assert contrast(page, selector) >= 4.5, (selector, dark)


def test_a_screen_reader_hears_names_states_and_what_was_saved(page):
    assert {"Keep K", "Edit E", "Drop D", "Undo", "Previous", "Next", "One by one", "List"} <= set(page.names("button"))
    assert {"Checks", "Decision", "Kind", "Document", "Flag"} <= set(page.names("combobox"))
    page.press("k")
    page.wait("document.querySelector('#said').textContent.includes('Question')")
    said = page.run("document.querySelector('#said').textContent")
    assert said.startswith("kept. 1 of 120 decided")
    assert PAIRS[1]["question"] in said
    assert "[evidence begins]" in page.run("document.querySelector('#passage').textContent")


def contrast(page: Browser, selector: str) -> float:
    """WCAG 2.2 contrast of an element's text with what lies behind it."""
    script = f"""(() => {{
      const element = document.querySelector({selector!r});
      let behind = element;
      while (behind && getComputedStyle(behind).backgroundColor.match(/, 0\\)$/)) behind = behind.parentElement;
      const paper = behind ? getComputedStyle(behind).backgroundColor : 'rgb(255, 255, 255)';
      return [getComputedStyle(element).color, paper];
    }})()"""
    light, dark = sorted((luminance(colour) for colour in page.run(script)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
