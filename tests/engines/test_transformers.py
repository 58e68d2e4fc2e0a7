from __future__ import annotations

import math

import pytest
import tiny_gguf

from tests.checkpoints import tiny_base
from werkmeister.bases.base import Base
from werkmeister.chat import conversation
from werkmeister.engines.engine import Finished, Sampling, Token, collect, reply
from werkmeister.engines.llama import LlamaEngine
from werkmeister.engines.transformers import Characters, TransformersEngine, open_transformers
from werkmeister.errors import ArtefactError, ContextError, EngineError

torch = pytest.importorskip("torch")

QUESTIONS = [
    conversation(text)
    for text in ("the land", "in and out", "a", "who is there? " * 3, "sand and hand", "thin", "über é", "and " * 12)
]
SHORT = Sampling(max_tokens=14)


@pytest.fixture(scope="module")
def model(tiny):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=tiny.name, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens, merges = tiny_gguf.vocabulary()
    inner = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split()) for m in merges]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(text, special=True) for text in tiny_gguf.SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template=tiny_gguf.TEMPLATE
    )


@pytest.fixture(scope="module")
def engine(model, tokenizer):
    return TransformersEngine(model, tokenizer, name="tiny", batch_size=3)


def generated(model, engine, question, count):
    """What transformers' own generate answers greedily: the independent reference."""
    ids = torch.tensor([engine.prompt_ids(question)])
    out = model.generate(ids, max_new_tokens=count, do_sample=False, eos_token_id=1, pad_token_id=1)
    return out[0, ids.shape[1] :].tolist()


def test_it_holds_the_same_model_as_llama_cpp(tiny, engine):
    with LlamaEngine(tiny, threads=1) as served:
        for question in QUESTIONS:
            assert engine.prompt_ids(question) == served.prompt_ids(question)
            ours, theirs = engine.next_logprobs(question, 300), served.next_logprobs(question, 300)
            assert max(abs(ours[i] - theirs[i]) for i in theirs) < 5e-3
            assert sum(map(math.exp, ours.values())) == pytest.approx(1, abs=1e-5)


def test_a_greedy_answer_is_that_of_generate(model, tokenizer, engine):
    for question in QUESTIONS:
        answer = reply(engine, question, SHORT)
        expected = generated(model, engine, question, SHORT.max_tokens)
        assert answer.answer_tokens == len(answer.tokens) == len(expected)
        whole = tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.text == whole.rstrip("\N{REPLACEMENT CHARACTER}")  # cut within a character
        assert answer.finish == ("stop" if expected[-1] == 1 else "length")


def test_logprobs_are_those_of_one_forward_pass_over_the_whole(model, engine):
    question = QUESTIONS[0]
    answer = reply(engine, question, SHORT)
    prompt, made = engine.prompt_ids(question), generated(model, engine, question, SHORT.max_tokens)
    with torch.inference_mode():
        logprobs = model(torch.tensor([prompt + made])).logits[0].log_softmax(-1)
    expected = [float(logprobs[len(prompt) - 1 + i, number]) for i, number in enumerate(made)]
    assert [token.logprob for token in answer.tokens] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_batches_answer_in_order_what_single_questions_are_answered(model, tokenizer, engine, batch_size):
    batched = TransformersEngine(model, tokenizer, name="tiny", batch_size=batch_size)
    many = QUESTIONS * 2
    for sampling in (SHORT, Sampling(max_tokens=14, temperature=1.5, top_p=0.8, seed=3)):
        found = list(batched.replies(many, sampling))
        for question, answer in zip(many, found, strict=True):
            single = reply(engine, question, sampling)
            assert (answer.text, answer.finish, answer.prompt_tokens) == (
                (single.text, single.finish, single.prompt_tokens)
            )
            assert [t.logprob for t in answer.tokens] == pytest.approx([t.logprob for t in single.tokens], abs=1e-4)
            assert 0 < answer.first_seconds <= answer.seconds


def test_rows_that_ended_leave_the_batch(model, tokenizer, monkeypatch):
    engine = TransformersEngine(model, tokenizer, name="tiny", batch_size=8)
    lengths = {q: reply(engine, q, Sampling(max_tokens=60)).answer_tokens for q in QUESTIONS}
    assert len(set(lengths.values())) > 1, "the questions need answers of different length"
    rows = []
    forward = model.forward

    def counted(*args, **kwargs):
        rows.append(kwargs["input_ids"].shape[0])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    list(engine.replies(QUESTIONS, Sampling(max_tokens=60)))
    assert rows[0] == 8 and rows[-1] < 8
    assert len(rows) == max(lengths.values())


def test_a_stream_gives_tokens_one_by_one_and_whole_characters(engine):
    items = list(engine.stream(QUESTIONS[6], Sampling(max_tokens=40, temperature=3.0, seed=1)))
    assert isinstance(items[-1], Finished)
    assert items[-1].answer_tokens == len(items) - 1
    assert all(isinstance(item, Token) for item in items[:-1])


def test_characters_of_several_tokens_come_whole_and_an_incomplete_one_is_dropped(tokenizer):
    characters = Characters(tokenizer)
    ids = tokenizer("aé🦥 bé", add_special_tokens=False)["input_ids"][:-1]
    assert [piece for piece in map(characters.push, ids) if piece] == ["a", "é", "🦥", " ", "b"]


def test_a_stop_text_ends_the_answer_before_it(engine):
    whole = reply(engine, QUESTIONS[0], SHORT).text
    assert len(whole) > 3
    cut = reply(engine, QUESTIONS[0], Sampling(max_tokens=14, stop=(whole[2],)))
    assert cut.finish == "stop"
    assert cut.text == whole[: whole.index(whole[2])]


def test_a_narrow_top_p_is_greedy_and_seeds_differ(engine):
    narrow = Sampling(max_tokens=14, temperature=2.0, top_p=1e-6, seed=5)
    assert reply(engine, QUESTIONS[0], narrow).text == reply(engine, QUESTIONS[0], SHORT).text
    drawn = {reply(engine, QUESTIONS[0], Sampling(max_tokens=14, temperature=2.0, seed=s)).text for s in range(5)}
    assert len(drawn) > 1


def test_sampling_follows_the_model(engine):
    """At temperature 1 the first token is drawn with the model's probability (three standard errors)."""
    question = QUESTIONS[1]
    best, logprob = next(iter(engine.next_logprobs(question, 1).items()))
    share, draws = math.exp(logprob), 300
    firsts = [
        collect(engine.stream(question, Sampling(max_tokens=1, temperature=1.0, seed=seed))).tokens[0].logprob
        for seed in range(draws)
    ]
    hits = sum(abs(value - logprob) < 1e-4 for value in firsts)
    assert best >= 0
    assert abs(hits - share * draws) < 3 * math.sqrt(draws * share * (1 - share))


def test_a_further_stop_token_ends_an_answer(model, tokenizer, engine):
    for question in QUESTIONS:
        made = generated(model, engine, question, 14)
        if len(made) > 3 and made[2] >= len(tiny_gguf.SPECIALS) and made[2] not in made[:2]:
            stop = tiny_gguf.vocabulary()[0][made[2]]
            answer = reply(TransformersEngine(model, tokenizer, name="t", stop=(stop,)), question, SHORT)
            assert (answer.answer_tokens, answer.finish) == (3, "stop")
            return
    pytest.fail("no question has a long enough answer")


def test_what_does_not_fit_is_refused_with_counts_and_its_conversation(engine):
    room = engine.context_length - len(engine.prompt_ids(QUESTIONS[0]))
    with pytest.raises(ContextError, match="together 257"):
        engine.stream(QUESTIONS[0], Sampling(max_tokens=room + 1))
    with pytest.raises(ContextError, match="conversation 2 of 3"):
        list(engine.replies([QUESTIONS[0], conversation("long " * 100), QUESTIONS[1]], SHORT))


def test_a_schema_is_refused_with_the_way_out(engine):
    with pytest.raises(EngineError, match="export the model"):
        engine.stream(QUESTIONS[0], Sampling(max_tokens=5, schema={"type": "object"}))


def test_logits_that_are_not_finite_are_named(tiny, tokenizer):
    from transformers import AutoModelForCausalLM

    broken = AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=tiny.name, dtype=torch.float32)
    broken.lm_head.weight.data[:] = float("inf")
    with pytest.raises(EngineError, match="not finite"):
        reply(TransformersEngine(broken, tokenizer, name="broken"), QUESTIONS[0], SHORT)


def test_a_closed_engine_says_so(model, tokenizer):
    with TransformersEngine(model, tokenizer, name="tiny") as engine:
        pass
    with pytest.raises(EngineError, match="closed"):
        engine.stream(QUESTIONS[0], SHORT)


@pytest.fixture(scope="module")
def base(model, tokenizer, tmp_path_factory):
    """The same tiny model as a base in the Hugging Face layout."""
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base")
    plain = LlamaForCausalLM(model.config)  # one that came from a GGUF refuses to be saved
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Base(
        name="tiny",
        source=str(folder),
        folder=folder,
        gguf=None,
        architecture="llama",
        context_length=tiny_gguf.CONTEXT,
        parameters=1,
        template=tiny_gguf.TEMPLATE,
        template_source="base",
        stop=("</s>",),
        identity="tiny",
        licence="",
    )


def test_a_base_is_opened_with_and_without_its_adapter(base, engine, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base.folder), config).save_pretrained(tmp_path / "adapter")
    with open_transformers(base, dtype=torch.float32, device="cpu") as plain:
        assert plain.prompt_ids(QUESTIONS[0]) == engine.prompt_ids(QUESTIONS[0])
        expected, found = engine.next_logprobs(QUESTIONS[0], 300), plain.next_logprobs(QUESTIONS[0], 300)
        assert max(abs(expected[i] - found[i]) for i in expected) < 1e-3
    with open_transformers(base, tmp_path / "adapter", dtype=torch.float32, device="cpu") as adapted:
        changed = adapted.next_logprobs(QUESTIONS[0], 300)
        assert max(abs(expected[i] - changed[i]) for i in expected) > 0.2
        assert adapted.name == "tiny + adapter"
        assert len(list(adapted.replies(QUESTIONS, SHORT))) == len(QUESTIONS)


def test_a_folder_that_is_no_adapter_is_named(base, tmp_path):
    with pytest.raises(ArtefactError, match=str(tmp_path)):
        open_transformers(base, tmp_path, device="cpu")


def test_a_base_that_does_not_fit_the_gpu_in_float32_is_held_there_in_four_bits(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 3 4B on a T4: 15.5 GB in float32, and 14.6 GB are free."""
    from dataclasses import replace

    import torch

    from werkmeister.engines import transformers as engine

    asked = {}

    def load(base, **options):
        asked.update(options)
        raise RuntimeError("loaded")

    monkeypatch.setattr(engine, "load_model", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (14_600_000_000, 15_800_000_000))
    base = tiny_base(tmp_path / "base")
    for parameters, bits in ((3_880_000_000, 4), (1_000_000_000, None)):
        with pytest.raises(RuntimeError, match="loaded"):
            engine.open_transformers(replace(base, parameters=parameters))
        found = asked["quantization_config"]
        assert (found and found.load_in_4bit and 4) == bits
        assert asked["dtype"] == torch.float32
