"""The chat page in a real browser over a gateway that says what the test wants."""

import json
import re
import time

import pytest

from tests.delivery.browser import Browser
from tests.delivery.sites import gateway

pytestmark = pytest.mark.slow
READY = "document.querySelector('#state').dataset.state === 'ready'"
PASSAGE = "The pump holds the pressure. The limit is 3 bar. Do not exceed it."
HOSTILE = """Hello <img src=x onerror="window.hit=1"> <script>window.hit=1</script>

[click](javascript:window.hit=1) ![p](https://x.example/p.png) <a href="javascript:window.hit=1">a</a>

```html
<svg onload="window.hit=1">
```

| <b>A</b> | B |
|---|---|
| <iframe srcdoc="<script>parent.hit=1</script>"></iframe> | 2 |
"""


@pytest.fixture(scope="module")
def browser():
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def site():
    with gateway() as opened:
        opened.pieces = ["The limit ", "is **3 bar**", "."]
        yield opened


@pytest.fixture
def page(browser, site):
    browser.errors.clear()
    browser.look(width=1200)
    browser.open(site.url)
    browser.wait(READY)
    yield browser
    assert browser.errors == []
    browser.open("about:blank")


def put(page, question):
    page.run("document.querySelector('#question').focus()")
    page.call("Input.insertText", text=question)
    page.press("Enter")


def answered(page, count=1):
    page.wait(f"{READY} && document.querySelectorAll('.turn.assistant .foot').length === {count}")


def test_a_question_is_asked_with_the_whole_conversation_and_the_answer_streams_in(page, site):
    site.delay = 0.2
    put(page, "What is the limit?")
    page.wait("document.querySelector('.turn.assistant .text').textContent === 'The limit'")
    assert page.run("document.querySelector('#send').hidden && !document.querySelector('#stop').hidden")
    answered(page)
    assert page.text(".turn.assistant .text") == "The limit is 3 bar."
    assert page.text(".turn.assistant strong") == "3 bar"
    put(page, "And the other?")
    answered(page, 2)
    assert site.heard[-1] == [
        {"role": "user", "content": "What is the limit?"},
        {"role": "assistant", "content": "The limit is **3 bar**."},
        {"role": "user", "content": "And the other?"},
    ]


def test_escape_stops_the_answer_at_the_gateway_too_and_what_came_stays(page, site):
    site.pieces, site.delay = ["word "] * 200, 0.05
    put(page, "Tell me everything")
    page.wait("document.querySelector('.turn.assistant .text').textContent.length > 10")
    page.press("Escape")
    page.wait(f"{READY} && document.querySelector('.turn.assistant .note')?.textContent === 'Stopped.'")
    kept = page.run("document.querySelector('.turn.assistant .text').textContent")
    assert kept.startswith("word word")
    end = time.monotonic() + 10
    while not site.left and time.monotonic() < end:
        time.sleep(0.05)
    assert site.left
    page.reload()
    page.wait(READY)
    assert page.run("document.querySelector('.turn.assistant .text').textContent") == kept


def test_a_cited_source_opens_with_the_place_highlighted(page, site):
    begin = PASSAGE.index("The limit")
    site.facts = {
        "passages": [{"id": "p1", "place": "pump.pdf, p. 12, Limits", "text": PASSAGE}],
        "citations": [{"passage": "p1", "start": begin, "end": begin + len("The limit is 3 bar.")}],
        **{"tokens": 9, "seconds": 1.25, "confidence": 0.875},
    }
    put(page, "What is the limit?")
    answered(page)
    assert page.text(".sources > summary") == "1 source"
    page.click(".sources details summary")
    assert page.text(".sources mark") == "The limit is 3 bar."
    assert page.text(".sources .passage") == PASSAGE
    assert page.text(".foot span") == "9 tokens · 1.3 s · least likely token 88\N{NO-BREAK SPACE}%"


def test_a_sentence_that_no_source_holds_is_named(page, site):
    site.pieces = ["The limit is 3 bar. ", "It is blue."]
    site.facts = {
        "passages": [{"id": "p1", "place": "pump.pdf, p. 12, Limits", "text": PASSAGE}],
        "citations": [
            {"sentence": [0, 19], "support": "verbatim", "passage": "p1", "start": 29, "end": 48},
            {"sentence": [20, 31], "support": "none"},
        ],
        "notes": ["The oldest turn was left out."],
    }
    put(page, "What is the limit?")
    answered(page)
    assert page.text(".note.bad") == "Found in no source: “It is blue.”"
    assert page.text(".note") == "The oldest turn was left out."
    page.click(".sources details summary")
    assert page.text(".sources mark") == "The limit is 3 bar."


def test_passages_that_are_not_cited_are_not_called_sources(page, site):
    site.facts = {"passages": [{"id": "p1", "place": "pump.pdf, p. 12"}], "citations": []}
    put(page, "What is the limit?")
    answered(page)
    assert page.text(".sources > summary") == "1 passage was given to the model"


def test_nothing_in_an_answer_becomes_markup_or_runs(page, site):
    site.pieces = [HOSTILE]
    put(page, "<img src=x onerror='window.hit=1'>")
    answered(page)
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.run("window.hit ?? 0") == 0
    assert page.run("document.querySelectorAll('.turn :is(img, script, svg, iframe, a, b, style)').length") == 0
    assert '<img src=x onerror="window.hit=1">' in page.run("document.querySelector('.turn.assistant').textContent")
    assert page.run("document.querySelectorAll('.turn table td').length") == 2


def test_json_answers_are_shown_to_the_letter(page, site):
    site.pieces = ['{"a_b_c": "*x*",', ' "d": "[e](f)"}']
    put(page, "as JSON")
    answered(page)
    assert page.run("document.querySelector('.turn.assistant .text').textContent") == "".join(site.pieces)


def test_conversations_are_kept_named_renamed_and_deleted(page, site):
    for number, question in enumerate(("first question", "second question")):
        if number:
            page.click("#new")
        put(page, question)
        answered(page)
    page.reload()
    page.wait(READY)
    assert page.run("[...document.querySelectorAll('#list button')].map((b) => b.textContent)") == [
        "second question",
        "first question",
    ]
    page.click("#list li:nth-child(2) button")
    assert page.text("#title") == "first question"
    page.click("#rename")
    page.wait("document.activeElement.id === 'dialog-input'")
    page.call("Input.insertText", text="Pumps")
    page.press("Enter")
    page.wait("document.querySelector('#title').textContent === 'Pumps'")
    page.click("#remove")
    page.wait("document.querySelector('#dialog').open")
    assert "There is no other copy" in page.text("#dialog")
    page.click("#dialog-yes")
    page.wait("document.querySelectorAll('#list button').length === 1")
    page.reload()
    page.wait(READY)
    assert page.run("Object.keys(localStorage).filter((key) => key.includes('conversation')).length") == 1
    page.click("#remove-all")
    page.wait("document.querySelector('#dialog').open")
    page.click("#dialog-yes")
    page.wait("document.querySelectorAll('#list button').length === 0")
    assert page.run("Object.keys(localStorage).filter((key) => key.includes('conversation')).length") == 0


def test_a_conversation_is_exported_as_markdown_and_json(page, site):
    put(page, "What is the limit?")
    answered(page)
    page.run("""(() => {
      window.saved = [];
      const make = URL.createObjectURL;
      URL.createObjectURL = (blob) => (blob.text().then((text) => window.saved.push(text)), make(blob));
      HTMLAnchorElement.prototype.click = function () { window.saved.push(this.download); };
    })()""")
    for number in (1, 2):
        page.click("#export")
        page.wait("document.querySelector('#dialog').open")
        page.click(f"#dialog .choices button:nth-child({number})")
        page.wait(f"window.saved.length === {2 * number} && !document.querySelector('#dialog').open")
    name, markdown, other, record = page.run("window.saved")
    assert (name, other) == ("What-is-the-limit.md", "What-is-the-limit.json")
    assert "## You\n\nWhat is the limit?\n\n## pump-expert\n\nThe limit is **3 bar**." in markdown
    assert [turn["content"] for turn in json.loads(record)["turns"]] == [
        "What is the limit?",
        "The limit is **3 bar**.",
    ]


def test_the_language_changes_in_the_middle_of_an_answer_and_is_remembered(page, site):
    site.delay = 0.15
    put(page, "What is the limit?")
    page.wait("document.querySelector('.turn.assistant .text').textContent")
    page.click("#language")
    answered(page)
    assert page.text(".turn.assistant .text") == "The limit is 3 bar."
    assert page.run("document.documentElement.lang") == "de"
    assert page.text("#new") == "Neues Gespräch"
    page.reload()
    page.wait(READY)
    assert page.text("#state-text") == "Bereit"
    page.click("#language")
    assert page.text("#state-text") == "Ready"


def test_oldest_turns_that_do_not_fit_are_left_out_and_the_page_says_so(page, site):
    site.most_turns = 3
    for number in (1, 2, 3):
        put(page, f"question {number}")
        answered(page, number)
    page.errors[:] = [error for error in page.errors if "400" not in error]
    assert [len(turns) for turns in site.heard] == [1, 3, 5, 3]
    assert page.text(".turn:last-child .note").startswith("The oldest question and its answer no longer fit")


def test_a_refusal_is_told_and_answer_again_asks_again(page, site):
    site.most_turns = 0
    put(page, "What is the limit?")
    answered(page)
    assert page.text(".turn .note.bad") == "The question is too long for this model."
    site.most_turns = 9
    page.run("[...document.querySelectorAll('.foot button')].at(-1).click()")
    page.wait("document.querySelector('.turn.assistant .text').textContent.includes('3 bar')")
    answered(page)
    assert page.run("document.querySelectorAll('.turn').length") == 2
    page.errors[:] = [error for error in page.errors if "400" not in error]


def test_a_gateway_that_wants_a_key_gets_it_and_the_key_is_not_stored_for_good(browser, site):
    site.key = "wm-secret"
    browser.errors.clear()
    browser.open(site.url)
    browser.wait("document.querySelector('#dialog').open && document.activeElement.type === 'password'")
    browser.call("Input.insertText", text="wm-secret")
    browser.press("Enter")
    browser.wait("Object.values(sessionStorage).includes('wm-secret')")
    put(browser, "What is the limit?")
    answered(browser)
    assert browser.run("JSON.stringify(localStorage).includes('wm-secret')") is False
    assert browser.errors == []
    browser.open("about:blank")


def test_a_gateway_that_is_gone_is_told(page, site):
    page.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    put(page, "What is the limit?")
    answered(page)
    assert page.text(".turn .note.bad") == "The gateway cannot be reached. Is it running?"


def test_the_keyboard_alone_reaches_everything_in_order(page, site):
    put(page, "What is the limit?")
    answered(page)
    page.run("document.querySelector('.skip').focus()")
    seen = []
    for _ in range(14):
        page.press("Tab")
        seen.append(page.run("document.activeElement.id || document.activeElement.textContent"))
    wanted = ["state", "theme", "language", "new", "What is the limit?", "remove-all", "rename", "export", "remove"]
    assert [name for name in seen if name in wanted] == wanted
    assert {"Copy", "Answer again"} <= set(seen)
    assert seen.index("question") < seen.index("send")


def test_a_screen_reader_hears_the_answer_once_it_is_whole(page, site):
    site.delay = 0.1
    put(page, "What is the limit?")
    page.wait("document.querySelector('#said').textContent === 'The answer begins.'")
    answered(page)
    assert page.run("document.querySelector('#said').textContent") == "Answer: The limit is **3 bar**."
    assert {"Send", "New conversation", "Rename", "Export", "Delete", "Deutsch", "Copy"} <= set(page.names("button"))
    assert page.names("textbox") == ["Your question"]
    page.click("#state")
    page.wait("document.querySelector('#dialog').open")
    assert page.names("dialog") == ["About this expert"]
    page.press("Escape")
    page.wait("!document.querySelector('#dialog').open")


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_whole_with_room_for_thumbs_and_enough_contrast(browser, site, language, dark):
    browser.look(width=390, height=800, dark=dark)
    site.pieces = [
        "Use `p`:\n\n> quoted\n\n[a link](https://x.example)\n\n",
        "| a | b |\n|---|---|\n| " + "x" * 90 + " | 2 |",
    ]
    site.facts = {"passages": [{"id": "p", "place": "pump.pdf, p. 12", "text": PASSAGE}], "citations": ["p"]}
    browser.open(site.url + f"?lang={language}")
    browser.wait(READY)
    put(browser, "What is the limit, and where is it written down so that I can read it myself?")
    answered(browser)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    visible = (
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent).map((b) => b.getBoundingClientRect())"
    )
    boxes = browser.run(f"{visible}.map((b) => [b.left, b.right, b.height])")
    assert all(left >= 0 and right <= 390 and height >= 44 for left, right, height in boxes)
    selectors = (
        ".turn.user .text",
        ".turn.assistant .text",
        ".who",
        ".foot span",
        "#send",
        ".turn a",
        ".turn blockquote",
    )
    for selector in (*selectors, ".turn code", "#state-text", ".sources summary"):
        assert contrast(browser, selector) >= 4.5, selector
    browser.click("#show-list")
    browser.wait("document.activeElement.id === 'new'")
    assert browser.run("document.querySelector('#show-list').getAttribute('aria-expanded')") == "true"
    browser.press("Escape")
    assert browser.run("document.activeElement.id") == "show-list"
    browser.open("about:blank")


def contrast(page, selector):
    """WCAG 2.2 contrast of an element's text with what lies behind it."""
    script = f"""(() => {{
      const element = document.querySelector({selector!r});
      let behind = element;
      while (behind && getComputedStyle(behind).backgroundColor.match(/, 0\\)$/)) behind = behind.parentElement;
      return [getComputedStyle(element).color, getComputedStyle(behind ?? document.body).backgroundColor];
    }})()"""
    light, dark = sorted((luminance(colour) for colour in page.run(script)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
