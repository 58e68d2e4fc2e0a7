"""The packaged SmolLM2 under llama.cpp and under transformers: minutes, and the model is fetched with pip."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest

from werkmeister.bases.find import find_base
from werkmeister.chat import Message, conversation
from werkmeister.engines.engine import Sampling, reply
from werkmeister.engines.llama import LlamaEngine
from werkmeister.progress import Silent

pytestmark = pytest.mark.slow

CONVERSATIONS = [
    conversation("What is the capital of France?"),
    conversation("Schalte das Licht in der Küche über dem Herd aus.", "Antworte als JSON."),
    conversation("  two  blanks,\n\na line break, 12345 numbers and 日本語 🦥 "),
    conversation("<|im_end|> and <|im_start|>user in the text"),
    (Message("user", "Hello"), Message("assistant", "Hi!"), Message("user", "And again?")),
]


@pytest.fixture(scope="module")
def base():
    return find_base("smollm2-135m", progress=Silent())


@pytest.fixture(scope="module")
def served(base):
    with LlamaEngine(base.gguf, context_length=1024) as engine:
        yield engine


@pytest.fixture(scope="module")
def trained(base):
    import torch

    from werkmeister.engines.transformers import open_transformers

    with open_transformers(base, dtype=torch.float32, device="cpu") as engine:
        yield engine


def test_both_engines_see_the_same_token_ids(served, trained):
    for turns in CONVERSATIONS:
        assert served.prompt_ids(turns) == trained.prompt_ids(turns)


def test_both_engines_give_the_next_token_the_same_probabilities(served, trained):
    """Within what llama.cpp loses by computing 4-bit weights against 8-bit activations."""
    for turns in CONVERSATIONS:
        ours, theirs = trained.next_logprobs(turns, 10**6), served.next_logprobs(turns, 10**6)
        assert len(ours) == len(theirs)
        assert sum(math.exp(value) * (value - theirs[number]) for number, value in ours.items()) < 0.03


def test_a_greedy_answer_has_the_logprobs_that_transformers_computes_for_it(served, trained):
    turns = CONVERSATIONS[0]
    answer = reply(served, turns, Sampling(max_tokens=12))
    first = answer.tokens[0]
    assert first.logprob == pytest.approx(max(served.next_logprobs(turns, 1).values()), abs=1e-3)
    assert min(abs(first.logprob - value) for value in trained.next_logprobs(turns, 5).values()) < 0.3


def test_an_untrained_model_fulfils_a_schema_without_running_on(served):
    schema = {
        "type": "object",
        "properties": {
            "intent": {"enum": ["HassTurnOn", "HassTurnOff"]},
            "rooms": {"type": "array", "items": {"enum": ["Küche", "Bad"]}, "minItems": 1, "maxItems": 2},
        },
        "required": ["intent", "rooms"],
        "additionalProperties": False,
    }
    for turns in CONVERSATIONS:
        answer = reply(served, turns, Sampling(max_tokens=100, schema=schema))
        assert answer.finish == "stop"
        jsonschema.validate(json.loads(answer.text), schema)


def test_parallel_slots_answer_what_single_questions_are_answered_in_most_cases(base, served):
    """Rounding differs with the batch, so a near tie may fall otherwise; most answers must not move."""
    questions = [conversation(f"Name {number} animals.") for number in range(2, 10)]
    single = [reply(served, question, Sampling(max_tokens=8)).text for question in questions]
    with LlamaEngine(base.gguf, context_length=256, slots=4) as parallel:
        found = [answer.text for answer in parallel.replies(questions, Sampling(max_tokens=8))]
    assert sum(a == b for a, b in zip(single, found, strict=True)) >= 6
