from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys

import jsonschema
import pytest

from werkmeister.chat import Message, conversation
from werkmeister.consulting.expert import (
    Answer,
    AskSettings,
    Expert,
    ask,
    confidence,
    open_expert,
    stream_answer,
    stream_tokens,
)
from werkmeister.consulting.finding import Finding
from werkmeister.engines.engine import Sampling, Stop, Token, reply
from werkmeister.engines.llama import LlamaEngine
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.errors import ArtefactError, ContextError, SettingsError
from werkmeister.grounding import open_book
from werkmeister.passage import Passage

SHORT = AskSettings(max_tokens=12, threads=1)


def scripted(script, **options):
    engine = ScriptedEngine(script, **options)
    return Expert(name="smith", engine=engine, system="Be brief.", sampling=Sampling(max_tokens=20))


def test_an_answer_carries_text_confidence_counts_and_times():
    expert = scripted({"who?": "The smith."}, logprob=-0.1, logprobs={" smith": -0.7})
    answer = ask(expert, "who?")
    assert answer.text == "The smith."
    assert answer.confidence == pytest.approx(math.exp(-0.7))
    assert (answer.route, answer.finish, answer.citations) == ("local", "stop", ())
    assert (answer.tokens, answer.prompt_tokens) == (4, 5)
    assert 0 < answer.first_seconds <= answer.seconds


def test_what_nothing_measured_is_said_to_be_not_measured():
    record = ask(scripted({}, otherwise="yes"), "q").record()
    assert record["joules"] == record["cost"] == "not measured"
    assert json.loads(json.dumps(record)) == record


def test_no_tokens_give_no_confidence():
    assert confidence([]) is None


def test_the_system_message_comes_first_then_the_history_then_the_question():
    expert = scripted({}, otherwise="yes")
    history = (Message("user", "a"), Message("assistant", "b"))
    ask(expert, "c", history=history)
    turns, sampling = expert.engine.asked[0]
    assert [(m.role, m.content) for m in turns] == [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]
    assert sampling == expert.sampling


def test_a_stream_gives_the_pieces_of_the_answer_and_the_answer_last():
    expert = scripted({"q": "one two three"})
    *pieces, answer = stream_answer(expert, "q")
    assert pieces == ["one", " two", " three"]
    assert isinstance(answer, Answer) and answer.text == "one two three"


def test_a_clients_system_message_stands_behind_the_experts_own():
    expert = scripted({}, otherwise="yes")
    ask(expert, "c", history=(Message("system", "Be kind."), Message("user", "a"), Message("assistant", "b")))
    ask(expert, "c", history=(Message("system", "Be brief."),))
    ask(expert, "c", history=(Message("system", ""),))
    first, second, third = (turns for turns, _ in expert.engine.asked)
    assert first[0] == Message("system", "Be brief.\n\nBe kind.") and len(first) == 4
    assert [turns[0].content for turns in (second, third)] == ["Be brief."] * 2, "none is said twice"


def test_a_library_puts_its_passages_before_the_question_and_the_answer_names_them():
    passage = Passage(id="1" * 16, document="m.pdf", title="T", headings=("H",), text="It is red.", start=0, end=10)

    class Shelf:
        asked = ()

        def find(self, question, history):
            self.asked = (question, history)
            return Finding(passages=(passage,), language="de")

    engine, shelf = ScriptedEngine({}, otherwise="yes"), Shelf()
    expert = Expert(name="smith", engine=engine, system="S", sampling=Sampling(max_tokens=9), library=shelf)
    history = (Message("user", "a"), Message("assistant", "b"))
    *_, streamed = stream_answer(expert, "colour?", history=history)
    for answer in (ask(expert, "colour?", history=history), streamed):
        assert answer.passages == (passage,)
        shown = {"id": "1" * 16, "place": "m.pdf, H", "title": "T", "text": "It is red."}
        assert answer.record()["passages"] == [shown]
    assert shelf.asked == ("colour?", history)
    assert {turns[-1].content for turns, _ in engine.asked} == {open_book("colour?", [passage], "de")}


def test_tokens_come_with_their_logprobs_and_a_stop_ends_them_without_an_answer():
    expert = scripted({"q": "one two three"})
    *tokens, answer = stream_tokens(expert, "q")
    assert [token.text for token in tokens] == ["one", " two", " three", ""] and isinstance(answer, Answer)
    stop = Stop()
    items = stream_tokens(expert, "q", stop=stop)
    assert isinstance(next(items), Token)
    stop.ask()
    assert list(items) == []


def test_a_bare_text_is_continued_without_system_message_and_library():
    expert = scripted({"go on": "and on"})
    assert list(stream_tokens(expert, "go on", bare=True))[-1].text == "and on"
    assert [message.content for message in expert.engine.asked[0][0]] == ["go on"]


def test_a_question_that_does_not_fit_is_refused():
    with pytest.raises(ContextError):
        ask(scripted({}, otherwise="yes", context_length=20), "word " * 30)


def test_the_default_file_answers_under_the_system_message_of_the_export(built):
    export = built / "artefacts" / "export"
    with open_expert(built, settings=SHORT) as expert, LlamaEngine(export / "model-Q4_K_M.gguf", threads=1) as engine:
        expected = reply(engine, conversation("the land", "the hand"), Sampling(max_tokens=12))
        answer = ask(expert, "the land")
        assert expert.name == "tiny-expert"
        assert (answer.text, answer.prompt_tokens) == (expected.text, expected.prompt_tokens)
        assert answer.confidence == pytest.approx(math.exp(min(t.logprob for t in expected.tokens)), rel=1e-3)


@pytest.mark.parametrize("file", ["Q8_0", "model-Q8_0.gguf"])
def test_another_file_is_chosen_by_quantisation_or_by_name(built, file):
    with open_expert(built, settings=SHORT, file=file) as expert:
        assert expert.engine.name == "model-Q8_0.gguf"


def test_a_file_that_is_not_there_is_refused_with_those_that_are(built):
    with pytest.raises(ArtefactError, match="no model file 'Q3_K'") as caught:
        open_expert(built, settings=SHORT, file="Q3_K")
    assert "Q8_0, Q4_K_M" in str(caught.value)


def test_an_expert_that_was_not_built_names_the_command(tmp_path):
    with pytest.raises(ArtefactError, match=f"werkmeister build {tmp_path}"):
        open_expert(tmp_path)


def test_a_model_file_that_was_changed_is_named(built, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    file = copy / "artefacts" / "export" / "model-Q4_K_M.gguf"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match="model-Q4_K_M"):
        open_expert(copy)


def test_the_schema_file_holds_every_answer(built, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    schema |= {"additionalProperties": False}
    (copy / "answer.json").write_text(json.dumps(schema))
    with open_expert(copy, settings=AskSettings(max_tokens=60, threads=1, schema="answer.json")) as expert:
        jsonschema.validate(json.loads(ask(expert, "the land").text), schema)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "no JSON object")]
)
def test_a_schema_file_that_is_none_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    with pytest.raises(SettingsError, match=words):
        open_expert(tmp_path, settings=AskSettings(schema="s.json"))


def test_consulting_loads_no_torch_no_transformers_no_numpy(built):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from werkmeister.consulting.expert import AskSettings, ask, open_expert\n"
        "import werkmeister.consulting.chat_loop\n"
        f"with open_expert(Path({str(built)!r}), settings=AskSettings(max_tokens=5, threads=1)) as expert:\n"
        "    ask(expert, 'the land')\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'gguf', 'tokenizers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


class Shelf:
    """A library that finds what it was given."""

    def __init__(self, **finding):
        self.finding = Finding(**finding)

    def find(self, question, history):
        return self.finding


def place(text, number=1):
    return Passage(
        id=str(number) * 16, document="m.pdf", title="T", headings=("H",), text=text, start=50, end=50 + len(text)
    )


def reading(engine, *passages, **finding):
    shelf = Shelf(passages=passages, **finding)
    return Expert(name="smith", engine=engine, system="S", sampling=Sampling(max_tokens=9), library=shelf)


def test_an_answer_cites_its_passage_and_marks_what_stands_nowhere():
    expert = reading(ScriptedEngine({}, otherwise="It is red. Buy it."), place("The lamp: it is red."))
    *_, streamed = stream_answer(expert, "colour?")
    for answer in (ask(expert, "colour?"), streamed):
        first, second = answer.record()["citations"]
        assert first["quote"] == "it is red" and first["document_start"] == 60
        assert second == {"sentence": [11, 18], "support": "none"}


def test_below_the_bar_the_model_is_not_asked():
    engine = ScriptedEngine({}, otherwise="a guess")
    expert = reading(engine, told=False, language="de")
    token, streamed = stream_tokens(expert, "Wer?")
    assert token.text == streamed.text
    for answer in (ask(expert, "Wer?"), streamed):
        assert answer.text == "Das steht nicht in den Dokumenten."
        assert (answer.tokens, answer.confidence, answer.citations) == (0, None, ())
        assert "not asked" in answer.notes[0] and answer.record()["notes"] == list(answer.notes)
    assert engine.asked == []


def test_the_oldest_turns_go_whole_when_the_context_is_full_and_the_answer_says_so():
    expert = scripted({}, otherwise="yes", context_length=32)
    history = tuple(Message(role, f"{role[0]}{n} word") for n in range(4) for role in ("user", "assistant"))
    *_, streamed = stream_answer(expert, "now?", history=history)
    for answer in (ask(expert, "now?", history=history), streamed):
        assert answer.turns_left_out == 3
        assert answer.notes == ("The 3 oldest turns were left out: the conversation no longer fits 32 tokens.",)
    kept = [message.content for message in expert.engine.asked[-1][0]]
    assert kept == ["Be brief.", "u3 word", "a3 word", "now?"]


def test_passages_go_last_from_the_end_when_the_context_is_full():
    engine = ScriptedEngine({}, otherwise="yes", context_length=45)
    expert = reading(engine, place("word " * 20), place("other " * 20, 2))
    answer = ask(expert, "q", history=(Message("user", "a"), Message("assistant", "b")))
    assert [passage.id for passage in answer.passages] == ["1" * 16]
    assert answer.turns_left_out == 1 and "1 of the passages" in answer.notes[1]


def test_an_expert_with_an_index_opens_its_library_unless_told_not_to(built, tmp_path):
    import shelves

    from werkmeister.consulting.indexing import IndexSettings, index
    from werkmeister.progress import Silent

    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    home = copy / "artefacts"
    documents = shelves.documents_artefact(home)
    index(documents, home / "index", IndexSettings(embedding="none"), home=home, progress=Silent())
    with open_expert(copy, settings=SHORT) as expert:
        assert expert.library.find("How is the AX-200 reset?").passages[0].document == "manuals/acme-ax-200.md"
    with open_expert(copy, settings=AskSettings(max_tokens=12, threads=1, library=False)) as expert:
        assert expert.library is None
