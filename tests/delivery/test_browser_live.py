"""The bundle in a real browser: it loads, answers as llama.cpp does, and answers again without a server."""

import json
import shutil
from dataclasses import replace

import pytest

from tests.delivery.browser import Browser
from tests.delivery.sites import static
from werkmeister.artefact import making
from werkmeister.bases.find import find_base
from werkmeister.consulting.expert import AskSettings, ask, open_expert
from werkmeister.consulting.library_file import LIBRARY, add_meta, write_library
from werkmeister.delivery.browser import browser_bundle
from werkmeister.grounding import refusal
from werkmeister.passage import Passage
from werkmeister.progress import Silent

pytestmark = pytest.mark.slow
SETTINGS = AskSettings(max_tokens=48)
READY = "document.querySelector('#state').dataset.state === 'ready'"
MISSING = "document.querySelector('#state').dataset.state === 'missing'"


def golden(expert, questions, file):
    """What llama.cpp answers, as golden prompts."""
    with open_expert(expert, settings=SETTINGS, threads=1) as opened:
        answers = [ask(opened, question).text for question in questions]
    pairs = zip(questions, answers, strict=True)
    lines = [json.dumps({"messages": [{"role": "user", "content": q}], "answer": a}) for q, a in pairs]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def bundle(built, tmp_path_factory):
    """The tiny expert in several shards, with the golden answers that llama.cpp gave when it was exported."""
    folder = tmp_path_factory.mktemp("live")
    made = browser_bundle(built, folder / "web", settings=SETTINGS, whole=1, shard=40_000, file="Q8_0")
    assert made.shards > 1
    return made.path


@pytest.fixture
def browser(tmp_path):
    opened = Browser(tmp_path / "profile")
    opened.look(width=1200)
    yield opened
    opened.close()


def start(page, url):
    page.open(url)
    page.wait(MISSING, 60)
    page.click("#begin")


def put(page, question):
    before = page.run("document.querySelectorAll('.turn.assistant .foot').length")
    page.run("document.querySelector('#question').focus()")
    page.call("Input.insertText", text=question)
    page.press("Enter")
    page.wait(f"{READY} && document.querySelectorAll('.turn.assistant .foot').length === {before + 1}", 120)
    return page.run("[...document.querySelectorAll('.turn.assistant .text')].at(-1).textContent")


def first_golden(bundle):
    record = json.loads((bundle / "expected.jsonl").read_text("utf-8").splitlines()[0])
    return record["messages"][-1]["content"], record["answer"]


def test_it_answers_as_llama_cpp_and_goes_on_without_a_server(bundle, tmp_path):
    question, answer = first_golden(bundle)
    profile = tmp_path / "profile"
    page = Browser(profile)
    with static(bundle) as site:
        start(page, site.url)
        page.wait(READY, 120)
        assert page.run("crossOriginIsolated")  # though the server sends no such header
        assert put(page, question) == answer
        count = len((bundle / "expected.jsonl").read_text("utf-8").splitlines())
        assert page.run("werkmeister.replay()") == [True] * count
        assert page.errors == []
    page.close()
    page = Browser(profile)
    page.open(site.url)
    page.wait(READY, 60)
    assert page.run("[...document.querySelectorAll('.turn.assistant .text')].at(-1).textContent") == answer
    page.click("#new")
    assert put(page, question) == answer
    assert page.errors == []
    page.close()


def test_no_other_host_can_be_reached_from_the_page_or_its_workers(bundle, browser, tmp_path):
    with static(tmp_path) as other, static(bundle) as site:
        start(browser, site.url)
        browser.wait(READY, 120)
        names = browser.run("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)")
        assert {name + "/" for name in names} <= {site.url}
        tried = f"""(async () => {{
          const url = {other.url!r};
          const worker = new Worker(URL.createObjectURL(new Blob([`fetch("${{url}}worker").then(
            () => postMessage("got"), () => postMessage("refused"))`], {{type: "text/javascript"}})));
          const said = new Promise((resolve) => (worker.onmessage = (event) => resolve(event.data)));
          const fetched = await fetch(url + "page", {{mode: "no-cors"}}).then(() => "got", () => "refused");
          new Image().src = url + "image.png";
          const imported = await import(url + "module.js").then(() => "got", () => "refused");
          const script = document.createElement("script");
          script.src = url + "script.js";
          document.body.append(script);
          navigator.sendBeacon(url + "beacon", "x");
          return [fetched, imported, await said];
        }})()"""
        assert browser.run(tried) == ["refused"] * 3
        browser.run("new Promise((done) => setTimeout(done, 500))")
        assert other.asked == []
        browser.errors.clear()


def test_a_download_that_broke_off_goes_on_where_it_ended(built, browser, tmp_path):
    made = browser_bundle(built, tmp_path / "web", settings=SETTINGS)
    with static(made.path) as site:
        site.cut = 30_000
        start(browser, site.url)
        browser.wait(f"{MISSING} && !document.querySelector('#problem').hidden", 60)
        browser.click("#begin")
        browser.wait(READY, 120)
        ranges = [wanted for name, wanted in site.asked if name.endswith(".gguf")]
        assert ranges[0] == ""
        assert 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 30_000
        browser.errors.clear()


def test_a_damaged_file_is_refused_and_fetched_anew(built, browser, tmp_path):
    made = browser_bundle(built, tmp_path / "web", settings=SETTINGS)
    with static(made.path) as site:
        site.spoil = True
        start(browser, site.url)
        browser.wait(f"{MISSING} && document.querySelector('#problem').textContent.includes('damaged')", 60)
        site.spoil = False
        browser.click("#begin")
        browser.wait(READY, 120)
        assert [wanted for name, wanted in site.asked if name.endswith(".gguf")] == ["", ""]
    assert browser.errors == []


def test_a_conversation_that_grows_too_long_loses_its_oldest_turns_and_says_so(bundle, browser):
    with static(bundle) as site:
        start(browser, site.url)
        browser.wait(READY, 120)
        for number in range(3):
            put(browser, f"{number} " + "What is the code of the red lamp? " * 20)
        told = browser.text("#turns")
        assert "no longer fit and" in told
        put(browser, "What is the code of the red lamp? " * 200)
        assert "The question is too long for this model." in browser.text("#turns")


def test_a_stopped_answer_keeps_what_came_and_the_next_one_begins_anew(bundle, browser, tmp_path):
    long = tmp_path / "long"
    shutil.copytree(bundle, long)
    about = json.loads((long / "expert.json").read_text("utf-8"))
    about["sampling"] |= {"max_tokens": 400, "stop": []}
    (long / "expert.json").write_text(json.dumps(about), encoding="utf-8")
    with static(long) as site:
        start(browser, site.url)
        browser.wait(READY, 120)
        question, _ = first_golden(bundle)
        browser.call("Input.insertText", text=question)
        browser.press("Enter")
        browser.wait("document.querySelector('#state').dataset.state === 'answering'")
        browser.press("Escape")
        browser.wait(f"{READY} && document.querySelector('.turn.assistant .note').textContent === 'Stopped.'", 60)
        put(browser, question)
    assert browser.errors == []


def test_an_engine_that_broke_is_loaded_anew_for_the_next_question(bundle, browser):
    question, answer = first_golden(bundle)
    with static(bundle) as site:
        start(browser, site.url)
        browser.wait(READY, 120)
        state = "import(new URL('app/state.js', document.baseURI))"
        broken = "() => Promise.reject(new Error('out of memory'))"
        browser.run(f"{state}.then(({{app}}) => {{ app.engine.wllama.createChatCompletion = {broken}; }})")
        put(browser, question)
        assert browser.text(".turn .note.bad") == "No answer: out of memory"
        assert put(browser, question) == answer
    assert browser.errors == []


def pretend(browser, said):
    """From now on the page's engine answers with these words."""
    browser.run(
        "import(new URL('app/state.js', document.baseURI)).then(({app}) => { "
        "app.engine.wllama.createChatCompletion "
        f"= async ({{onData}}) => onData({{choices: [{{delta: {{content: {json.dumps(said)}}}}}]}}); }})"
    )


def test_an_expert_with_documents_answers_from_their_passages_and_abstains_below_the_bar(built, browser, tmp_path):
    shutil.copytree(built / "artefacts/export", tmp_path / "expert/artefacts/export")
    text = "The code of the red lamp is R1. It stands on the lid."
    lamp = Passage(id="1", document="lamp.md", title="Red lamp", headings=("Codes",), text=text, start=0, end=len(text))
    other = replace(lamp, id="2", document="door.md", title="Blue door", text="The door is blue.")
    with making("index", tmp_path / "expert/artefacts/index", version=1, inputs={}, settings={}) as draft:
        write_library(draft.path / LIBRARY, [lamp, other])
        add_meta(draft.path / LIBRARY, {"bar": {"coverage": 0.5, "similarity": None}, "language": "en"})
        draft.facts |= {"embedder": "", "weights": [1.0, 1.0]}
    made = browser_bundle(tmp_path / "expert", tmp_path / "web", settings=SETTINGS)
    with open_expert(tmp_path / "expert", settings=SETTINGS, threads=1) as opened:
        ours = [ask(opened, question).text for question in ("What is the code of the red lamp?", "Who is the zebra?")]
    with static(made.path) as site:
        start(browser, site.url)
        browser.wait(READY, 120)
        assert put(browser, "What is the code of the red lamp?") == ours[0]
        assert browser.text(".sources > summary") == "1 passage was given to the model"
        assert browser.run("document.querySelector('.sources .passage').textContent") == text
        assert put(browser, "Who is the zebra?") == ours[1] == refusal("en")
        said = "The code of the red lamp is R1. It is warm."
        pretend(browser, said)
        assert put(browser, "What is the code of the red lamp?") == said
        latest = "[...document.querySelectorAll('.turn.assistant')].at(-1)"
        assert browser.run(f"{latest}.querySelector('mark').textContent") == "The code of the red lamp is R1"
        assert "It is warm." in browser.run(f"{latest}.querySelector('.note.bad').textContent")
        said = "The text does not mention who made the red lamp."
        pretend(browser, said)
        assert put(browser, "What is the code of the red lamp?") == said
        assert browser.run(f"{latest}.querySelector('.note.bad')") is None
    assert browser.errors == []


def test_a_schema_binds_the_answer_in_the_browser_too(built, browser, tmp_path):
    shutil.copytree(built / "artefacts/export", tmp_path / "expert/artefacts/export")
    schema = {"type": "object", "properties": {"code": {"enum": ["R1", "G2"]}}, "required": ["code"]}
    (tmp_path / "expert/answer.json").write_text(json.dumps(schema), encoding="utf-8")
    settings = AskSettings(max_tokens=64, schema="answer.json")
    made = browser_bundle(tmp_path / "expert", tmp_path / "web", settings=settings)
    with static(made.path) as site:
        start(browser, site.url)
        browser.wait(READY, 120)
        answer = put(browser, "What is the code of the red lamp?")
        assert json.loads(answer)["code"] in ("R1", "G2"), browser.text("#turns")
    assert browser.errors == []


def test_a_new_version_is_taken_once_the_old_one_is_closed_and_its_model_replaces_the_old(built, tmp_path):
    profile, folder = tmp_path / "profile", tmp_path / "web"
    browser_bundle(built, folder, settings=SETTINGS)
    name = "import(new URL('app/state.js', document.baseURI)).then(({app}) => app.about.model.name)"
    with static(folder) as site:
        page = Browser(profile)
        start(page, site.url)
        page.wait(READY, 120)
        browser_bundle(built, folder, settings=SETTINGS, file="Q4_K_M")
        page.open(site.url)
        page.wait(f"{READY} && document.querySelector('#state-where').textContent", 60)
        assert page.run(name) == "model-Q8_0.gguf"  # what is whole goes on answering
        page.run("navigator.serviceWorker.getRegistration().then((one) => one.update())")
        waiting = (
            "(window.seen ??= setInterval(async () => { const one = await navigator.serviceWorker.getRegistration();"
        )
        page.wait(f"{waiting} window.ready = Boolean(one.waiting) }}, 50)) && window.ready", 30)
        page.close()
        page = Browser(profile)
        start(page, site.url)
        page.wait(READY, 120)
        assert page.run(name) == "model-Q4_K_M.gguf"
        count = "navigator.storage.getDirectory().then(async (root) => { let files = 0; for await (const folder of "
        count += (
            "root.values()) for await (const name of folder.keys()) files += name.endsWith('.gguf'); return files })"
        )
        assert page.run(count) == 1
        page.close()


def test_the_dialog_says_honestly_where_it_is_computed_and_replays_the_golden_answers(bundle, browser):
    with static(bundle) as site:
        start(browser, site.url)
        browser.wait(READY, 120)
        browser.click("#state")
        browser.wait("document.querySelector('#dialog dl')")
        told = browser.text("#dialog")
        threads = browser.run("Math.max(1, Math.min(8, Math.floor(navigator.hardwareConcurrency / 2)))")
        assert f"CPU, {threads} thread" in told
        assert "model-Q8_0.gguf" in told
        count = len((bundle / "expected.jsonl").read_text("utf-8").splitlines())
        browser.click("#check")
        browser.wait("document.querySelector('#told').textContent.includes('those that were recorded')", 120)
        assert browser.text("#told") == f"{count} of {count} answers are those that were recorded at export."
        browser.click("#forget")
        browser.wait("document.querySelector('#told').textContent.includes('was deleted')")
        assert (
            browser.run(
                "navigator.storage.getDirectory().then(async (d) => { for await (const n of d.keys()) return n })"
            )
            is None
        )
    assert browser.errors == []


def test_a_real_model_answers_greedily_as_llama_cpp_does(tmp_path):
    expert = packaged_expert(tmp_path / "smollm")
    questions = [
        "What is the capital of France?",
        "Schreibe einen Satz über Pumpen.",
        "List three colours.",
        "  two  blanks,\n\na line break, 12345 and 日本語",
        "How much is 12 plus 30?",
    ]
    expected = golden(expert, questions, tmp_path / "golden.jsonl")
    made = browser_bundle(expert, tmp_path / "web", settings=SETTINGS, expected=expected, whole=1, shard=40 << 20)
    page = Browser(tmp_path / "profile")
    with static(made.path) as site:
        start(page, site.url)
        page.wait(READY, 180)
        assert page.run("werkmeister.replay()") == [True] * len(questions)
        assert page.errors == []
    page.close()


def packaged_expert(folder):
    """An expert whose export is the packaged SmolLM2 as it is."""
    base = find_base("smollm2-135m", progress=Silent())
    with making("export", folder / "artefacts/export", version=1, inputs={}, settings={}) as draft:
        shutil.copyfile(base.gguf, draft.path / "model-Q4_1.gguf")
        draft.facts |= {
            "base": {"name": base.name, "identity": base.identity, "context_length": base.context_length},
            **{"system": "Answer in one sentence.", "context_length": base.context_length, "stop": list(base.stop)},
            **{"files": {"Q4_1": "model-Q4_1.gguf"}, "default": "Q4_1"},
        }
    return folder
