from __future__ import annotations

import http.client
import json
import math
import os
import subprocess
import sys
import time

import jsonschema
import psutil
import pytest
import tiny_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from werkmeister.chat import Message, conversation
from werkmeister.engines.engine import Finished, Sampling, Token, collect, reply
from werkmeister.engines.llama import LlamaEngine
from werkmeister.errors import BaseModelError, ContextError, DataError, EngineError, MachineError
from werkmeister.machine import cores

QUESTIONS = [conversation(text) for text in ("the land", "in and out", "a", "who is there?", "sand and hand", "thin")]
SHORT = Sampling(max_tokens=12)
SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "room": {"enum": ["Küche", "Bad"]}, "n": {"enum": [1, 20]}},
    "required": ["on", "room", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(tiny):
    with LlamaEngine(tiny, threads=1) as opened:
        yield opened


def test_prompt_ids_are_those_of_the_template_with_one_begin_token(engine):
    tokens, _ = tiny_gguf.vocabulary()
    ids = engine.prompt_ids(conversation("the é", "an"))
    assert [tokens[number] for number in ids] == (
        ["<s>", "<|system|>", "an", "</s>", "<|user|>", "the", "Ġ", "Ã", "©", "</s>", "<|assistant|>"]
    )


def test_a_model_that_begins_with_a_token_gets_it_in_front_exactly_once(tmp_path, engine):
    file = tiny_gguf.write_model(tmp_path / "begins.gguf", begins=True)
    bare = tiny_gguf.TEMPLATE.replace("{{ bos_token }}", "")
    for template in (tiny_gguf.TEMPLATE, bare):
        with LlamaEngine(file, threads=1, template=template) as opened:
            assert opened.prompt_ids(QUESTIONS[0]) == engine.prompt_ids(QUESTIONS[0])


def test_a_model_that_only_names_a_begin_token_gets_none_put_in_front(tiny, engine):
    bare = tiny_gguf.TEMPLATE.replace("{{ bos_token }}", "")
    with LlamaEngine(tiny, threads=1, template=bare) as other:
        assert other.prompt_ids(QUESTIONS[0]) == engine.prompt_ids(QUESTIONS[0])[1:]


def test_logprobs_of_the_whole_vocabulary_sum_to_one_and_come_likeliest_first(engine):
    found = engine.next_logprobs(QUESTIONS[0], 10_000)
    assert len(found) == len(tiny_gguf.vocabulary()[0])
    assert sum(map(math.exp, found.values())) == pytest.approx(1, abs=1e-4)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert list(engine.next_logprobs(QUESTIONS[0], 3)) == list(found)[:3]


def test_next_logprobs_agree_with_transformers_on_the_same_file(tiny, engine):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=tiny.name, dtype=torch.float32).eval()
    for question in QUESTIONS:
        with torch.inference_mode():
            logits = model(torch.tensor([engine.prompt_ids(question)])).logits[0, -1]
        expected = logits.log_softmax(-1)
        found = engine.next_logprobs(question, len(expected))
        assert max(abs(found[i] - float(expected[i])) for i in found) < 5e-3


def test_a_greedy_token_carries_the_logprob_of_the_likeliest_token(engine):
    for question in QUESTIONS:
        first = reply(engine, question, Sampling(max_tokens=1))
        if first.tokens:
            best = max(engine.next_logprobs(question, 1).values())
            assert first.tokens[0].logprob == pytest.approx(best, abs=1e-3)


def test_the_logprob_is_that_of_the_model_whatever_the_sampling(engine):
    logprobs = [round(value, 3) for value in engine.next_logprobs(QUESTIONS[0], 10_000).values()]
    for seed in range(4):
        drawn = collect(engine.stream(QUESTIONS[0], Sampling(max_tokens=1, temperature=3.0, top_p=0.9, seed=seed)))
        for token in drawn.tokens:
            assert min(abs(token.logprob - value) for value in logprobs) < 2e-3


def test_a_stream_gives_tokens_one_by_one_and_one_finished_with_counts(engine):
    items = list(engine.stream(QUESTIONS[1], SHORT))
    assert isinstance(items[-1], Finished)
    assert all(isinstance(item, Token) and item.logprob <= 0 for item in items[:-1])
    assert items[-1].prompt_tokens == len(engine.prompt_ids(QUESTIONS[1]))
    assert len(items) - 1 <= items[-1].answer_tokens <= SHORT.max_tokens


def test_an_answer_in_one_piece_is_that_of_the_stream(engine):
    drawn = Sampling(max_tokens=30, temperature=1.0, seed=4, stop=("b",))
    for sampling in (SHORT, drawn, Sampling(max_tokens=60, schema=SCHEMA)):
        for question in QUESTIONS:
            (whole,), streamed = engine.replies([question], sampling), reply(engine, question, sampling)
            assert (whole.text, whole.finish, whole.answer_tokens) == (
                (streamed.text, streamed.finish, streamed.answer_tokens)
            )
            assert [t.logprob for t in whole.tokens] == pytest.approx([t.logprob for t in streamed.tokens], abs=1e-3)
            assert 0 < whole.first_seconds <= whole.seconds


def test_the_beginning_of_a_stop_text_that_never_comes_is_part_of_the_answer(engine):
    for question in QUESTIONS:
        plain = reply(engine, question, SHORT)
        if plain.finish == "length" and plain.text[-1:].isascii() and plain.tokens[-1].text:
            held = Sampling(max_tokens=12, stop=(plain.text[-1] + "zzz",))
            (whole,), streamed = engine.replies([question], held), reply(engine, question, held)
            assert whole.text == streamed.text == plain.text
            return
    pytest.fail("no question has a cut answer that ends in a whole character")


def test_one_seed_gives_one_answer_and_other_seeds_give_others(engine):
    def drawn(seed):
        return reply(engine, QUESTIONS[0], Sampling(max_tokens=12, temperature=2.0, seed=seed)).text

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(6)}) > 1


def test_a_narrow_top_p_is_greedy(engine):
    narrow = Sampling(max_tokens=12, temperature=2.0, top_p=1e-6, seed=5)
    assert reply(engine, QUESTIONS[0], narrow).text == reply(engine, QUESTIONS[0], SHORT).text


def test_a_stop_text_ends_the_answer_before_it(engine):
    for question in QUESTIONS:
        whole = reply(engine, question, SHORT).text
        if len(whole) >= 3 and whole[2] not in whole[:2]:
            cut = reply(engine, question, Sampling(max_tokens=12, stop=(whole[2],)))
            assert (cut.text, cut.finish) == (whole[:2], "stop")
            return
    pytest.fail("no question of the list has a long enough answer")


def test_max_tokens_cuts_with_finish_length_and_the_end_token_gives_stop(engine):
    finishes = {(r.finish, r.answer_tokens < 12) for r in engine.replies(QUESTIONS, SHORT)}
    assert finishes <= {("length", False), ("stop", True), ("stop", False)}
    assert ("length", False) in finishes


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_under_a_schema_fulfils_it(engine, temperature):
    for question in QUESTIONS[:3]:
        answer = reply(engine, question, Sampling(max_tokens=100, temperature=temperature, schema=SCHEMA))
        assert answer.finish == "stop"
        jsonschema.validate(json.loads(answer.text), SCHEMA)


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "(?=x)"}]
)
def test_a_schema_that_llama_cpp_would_drop_is_refused(engine, schema):
    with pytest.raises(EngineError, match="cannot enforce the schema"):
        engine.stream(QUESTIONS[0], Sampling(max_tokens=9, schema=schema))


def test_a_prompt_that_does_not_fit_is_refused_with_counts_and_one_that_just_fits_is_answered(engine):
    room = engine.context_length - len(engine.prompt_ids(QUESTIONS[0]))
    assert reply(engine, QUESTIONS[0], Sampling(max_tokens=room)).prompt_tokens + room == 256
    with pytest.raises(ContextError) as caught:
        engine.stream(QUESTIONS[0], Sampling(max_tokens=room + 1))
    assert "together 257" in str(caught.value) and "holds 256" in str(caught.value)


def test_a_context_beyond_the_trained_one_is_refused(tiny):
    with pytest.raises(ContextError, match="trained for 256"):
        LlamaEngine(tiny, context_length=300)


def test_a_smaller_context_holds_to_the_token(tiny):
    with LlamaEngine(tiny, context_length=40, threads=1) as small, pytest.raises(ContextError, match="holds 40"):
        small.stream(QUESTIONS[0], Sampling(max_tokens=40))


def test_leaving_a_stream_early_stops_it_and_the_engine_answers_on(engine):
    expected = reply(engine, QUESTIONS[0], SHORT).text
    stream = engine.stream(QUESTIONS[2], Sampling(max_tokens=200, temperature=5.0))
    next(stream)
    stream.close()
    assert reply(engine, QUESTIONS[0], SHORT).text == expected


def test_replies_come_in_order_and_are_those_of_single_questions(tiny, engine):
    many = QUESTIONS * 4
    single = [reply(engine, question, SHORT).text for question in QUESTIONS] * 4
    assert [r.text for r in engine.replies(many, SHORT)] == single
    with LlamaEngine(tiny, threads=1, slots=3) as parallel:
        assert [r.text for r in parallel.replies(many, SHORT)] == single


@pytest.mark.parametrize("slots", [1, 3])
def test_a_failed_reply_names_its_conversation(tiny, slots):
    many = [*QUESTIONS[:2], conversation("too long " * 100), *QUESTIONS[2:]]
    with LlamaEngine(tiny, threads=1, slots=slots) as opened:
        answers = opened.replies(many, SHORT)
        assert next(answers).text and next(answers).text is not None
        with pytest.raises(ContextError, match="conversation 3 of 7"):
            list(answers)


def test_an_adapter_answers_like_the_merged_model_whatever_was_cached(tiny, tiny_adapter, tiny_merged, engine):
    with (
        LlamaEngine(tiny, adapter=tiny_adapter, threads=1) as adapted,
        LlamaEngine(tiny_merged, threads=1) as reference,
    ):
        plain = engine.next_logprobs(QUESTIONS[0], 300)
        for question in (QUESTIONS[0], QUESTIONS[1], QUESTIONS[0]):
            # The second round is answered from the cache of the first: it must be the adapter's cache.
            for _ in range(2):
                assert reply(adapted, question, SHORT).text == reply(reference, question, SHORT).text
            expected = reference.next_logprobs(question, 300)
            found = adapted.next_logprobs(question, 300)
            assert max(abs(found[i] - expected[i]) for i in expected) < 5e-3
        assert max(abs(adapted.next_logprobs(QUESTIONS[0], 300)[i] - plain[i]) for i in plain) > 0.1


def test_nothing_is_written_to_the_terminal(tiny, capfd):
    with LlamaEngine(tiny, threads=1) as opened:
        reply(opened, QUESTIONS[0], Sampling(max_tokens=40, schema=SCHEMA))
    time.sleep(0.1)
    assert capfd.readouterr() == ("", "")


def test_the_port_is_closed_to_those_without_the_key(engine):
    ports = [c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert ports
    for port in ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/completion", json.dumps({"prompt": "a"}))
        assert connection.getresponse().status == 401
        connection.close()


def test_closing_ends_the_native_threads_and_refuses_further_questions(tiny):
    before = psutil.Process().num_threads()
    with LlamaEngine(tiny, threads=1) as opened:
        assert psutil.Process().num_threads() > before
    assert psutil.Process().num_threads() == before
    with pytest.raises(EngineError, match="is closed"):
        reply(opened, QUESTIONS[0], SHORT)


def test_what_was_loaded_is_measured(tiny, tiny_adapter):
    with LlamaEngine(tiny, adapter=tiny_adapter, threads=1) as opened:
        assert opened.load_seconds > 0
        assert opened.size == tiny.stat().st_size + tiny_adapter.stat().st_size
        assert opened.name == "tiny.gguf + adapter.gguf"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BaseModelError, match=r"gone\.gguf"):
        LlamaEngine(tmp_path / "gone.gguf")


def test_a_file_of_another_format_is_named(tmp_path):
    (tmp_path / "text.gguf").write_text("I am a text" * 100)
    with pytest.raises(BaseModelError, match=r"text\.gguf.*not a GGUF file"):
        LlamaEngine(tmp_path / "text.gguf")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_file_truncated_anywhere_is_refused_before_llama_cpp_sees_it(tiny, tmp_path, share):
    data = tiny.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BaseModelError, match=r"cut\.gguf"):
        LlamaEngine(cut)


def test_an_architecture_that_llama_cpp_does_not_know_comes_with_its_reason(tiny, tmp_path, capfd):
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(tiny.read_bytes().replace(b"llama", b"lxama"))
    with pytest.raises(EngineError, match=r"strange\.gguf: .*unknown model architecture: 'lxama'"):
        LlamaEngine(strange)
    assert capfd.readouterr() == ("", "")


def test_an_adapter_is_no_model_and_a_model_no_adapter(tiny, tiny_adapter):
    with pytest.raises(BaseModelError, match="'adapter'"):
        LlamaEngine(tiny_adapter)
    with pytest.raises(BaseModelError, match="'model'"):
        LlamaEngine(tiny, adapter=tiny)


def test_a_file_without_a_template_needs_one_given(tmp_path, engine):
    bare = tiny_gguf.write_model(tmp_path / "bare.gguf", template=None)
    with pytest.raises(BaseModelError, match="no chat template"):
        LlamaEngine(bare)
    with LlamaEngine(bare, template=tiny_gguf.TEMPLATE, threads=1) as opened:
        assert opened.prompt_ids(QUESTIONS[0]) == engine.prompt_ids(QUESTIONS[0])


def test_a_template_that_refuses_the_turns_says_so(tiny):
    template = "{{ raise_exception('Only support two roles') }}"
    with LlamaEngine(tiny, template=template, threads=1) as opened, pytest.raises(DataError, match="Only support two"):
        opened.prompt_ids((Message("system", "a"), Message("user", "b")))


@pytest.mark.timeout(60)
def test_an_engine_that_is_closed_at_once_ends(tiny):
    """A native server that is let go of before its loop runs would wait for ever."""
    for _ in range(40):
        LlamaEngine(tiny, threads=1).close()


def test_threads_are_chosen_by_load_and_wait_without_spinning(tiny):
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from werkmeister.engines.llama import LlamaEngine\n"
        f"with LlamaEngine(Path({str(tiny)!r})) as engine:\n"
        "    print(engine.threads, os.environ['OMP_WAIT_POLICY'])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    threads, policy = done.stdout.split()
    assert 1 <= int(threads) <= cores() and policy == "passive"


def test_a_machine_without_xllamacpp_is_told_what_to_install(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MachineError, match="pip install") as caught:
        LlamaEngine(tiny)
    assert caught.value.exit_code == 2, "the person can mend it"


@pytest.mark.slow
def test_an_engine_that_was_idle_for_long_still_answers(engine):
    expected = reply(engine, QUESTIONS[0], SHORT).text
    time.sleep(7)
    assert reply(engine, QUESTIONS[0], SHORT).text == expected
