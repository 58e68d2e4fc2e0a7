"""Templates: rendered as transformers renders them, and always able to take a system message without thinking aloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.checkpoints import CHATML, GEMMA, PHI, THINKING
from werkmeister.bases import templates
from werkmeister.bases.templates import TemplateRefusal, first_special, render, stop_texts, template_in_force
from werkmeister.errors import BaseModelError

SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>"}
TURNS = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": " What? {{ x }} "},
    {"role": "assistant", "content": "That."},
    {"role": "user", "content": "Größe?"},
]
# Refuses a system message, as Gemma 2 and Mistral's first ones do.
REFUSING = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "[{{ message['role'] }}]{{ message['content'] }}<eos>{% endfor %}"
)
# Passes over a system message without a word.
DROPPING = (
    "{% for message in messages if message.role != 'system' %}"
    "[{{ message.role }}]{{ message.content }}<eos>{% endfor %}"
)
# Adds a system message of its own where there is none, as SmolLM2 does.
DEFAULTING = "{% if messages[0].role != 'system' %}<|im_start|>system\nI am Smol<|im_end|>\n{% endif %}" + CHATML
# Marks what to learn, as newer templates do, between blocks that trim white space in every way.
MARKED = """{% for message in messages %}
  {% if message.role == 'assistant' %}
    {%- generation -%}
      {{ message.content }}<eos>
    {%- endgeneration %}
  {% else %}
    {% generation %}
    [{{ message.role }}] {{ message.content }}{% endgeneration -%}
  {% endif %}
{% endfor %}"""
TOOLS = "{% if tools is not none %}tools{% endif %}{% for m in messages %}{{ m | tojson }}<eos>{% endfor %}"


@pytest.mark.parametrize("generation", [False, True])
@pytest.mark.parametrize(
    "template",
    [CHATML, THINKING, PHI, GEMMA, DEFAULTING, MARKED, TOOLS, templates.GEMMA, templates.CHATML, templates.PLAIN],
    ids=["chatml", "thinking", "phi", "gemma", "defaulting", "marked", "tools", "our gemma", "our chatml", "our plain"],
)
def test_rendering_is_that_of_transformers(template: str, generation: bool, checkpoints: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoints["gemma3-text"])
    expected = tokenizer.apply_chat_template(
        TURNS, chat_template=template, tokenize=False, add_generation_prompt=generation
    )
    assert render(template, TURNS, SPECIAL, generation=generation) == expected


def test_our_gemma_template_writes_what_the_published_one_writes() -> None:
    for turns in (TURNS, TURNS[1:], TURNS[:2], TURNS[1:3]):
        for generation in (False, True):
            ours = render(templates.GEMMA, turns, SPECIAL, generation=generation)
            assert ours == render(GEMMA, turns, SPECIAL, generation=generation)


@pytest.mark.parametrize(
    ("tokens", "source", "stop"),
    [
        ({"<start_of_turn>", "<end_of_turn>", "<eos>"}, "standard gemma", ("<end_of_turn>", "<eos>")),
        ({"<|im_start|>", "<|im_end|>", "<eos>"}, "standard ChatML", ("<|im_end|>", "<eos>")),
        ({"<eos>", "<pad>"}, "standard plain", ("<eos>",)),
    ],
)
def test_a_base_without_a_template_gets_the_one_that_its_vocabulary_fits(
    tokens: set[str], source: str, stop: tuple[str, ...]
) -> None:
    found = template_in_force("  ", SPECIAL, tokens)
    assert (found.source, found.stop) == (source, stop)
    text = render(found.text, TURNS, SPECIAL, generation=True)
    assert all(turn["content"].strip() in text for turn in TURNS)
    assert text.count("<bos>") == (0 if source == "standard ChatML" else 1)


def test_the_plain_template_ends_each_answer_with_the_eos_token_and_needs_no_begin_token() -> None:
    special = {"bos_token": "", "eos_token": "</s>"}
    found = template_in_force("", special, {"</s>"})
    asked = render(found.text, TURNS[:2], special, generation=True)
    answered = render(found.text, TURNS[:3], special)
    assert answered == asked + "That.</s>\n"


def test_a_base_that_nothing_could_end_is_refused() -> None:
    with pytest.raises(BaseModelError, match="no eos token"):
        template_in_force("", {"bos_token": "", "eos_token": ""}, set())


def test_the_base_s_own_template_is_kept_with_its_default_system_message() -> None:
    found = template_in_force(DEFAULTING, SPECIAL, {"<|im_start|>", "<|im_end|>"})
    assert (found.text, found.source) == (DEFAULTING, "base")
    assert "I am Smol" in render(found.text, TURNS[1:2], SPECIAL)


@pytest.mark.parametrize("own", [REFUSING, DROPPING], ids=["refusing", "dropping"])
def test_a_template_without_system_messages_gets_them_in_the_first_question(own: str) -> None:
    found = template_in_force(own, SPECIAL, {"<eos>"})
    assert found.source == "base, system message folded into the first question"
    assert render(found.text, TURNS[:2], SPECIAL) == "[user]Be brief.\n\n\n What? {{ x }} <eos>"
    for turns in (TURNS[1:2], TURNS[1:]):
        assert render(found.text, turns, SPECIAL) == render(own, turns, SPECIAL)


def test_a_template_that_thinks_aloud_stops_doing_so() -> None:
    found = template_in_force(THINKING, SPECIAL, {"<|im_end|>"})
    assert found.source == "base, thinking turned off"
    asked = render(found.text, TURNS[:2], SPECIAL, generation=True)
    assert asked.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert render(found.text, TURNS[:3], SPECIAL) == asked + "That.<|im_end|>\n"


@pytest.mark.parametrize(
    ("template", "stop"),
    [
        (CHATML, ("<|im_end|>", "<eos>")),
        (GEMMA, ("<end_of_turn>", "<eos>")),
        (PHI, ("<|end|>", "<eos>")),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }} ###\n{% endfor %}", ("###", "<eos>")),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}", ("<eos>",)),
    ],
)
def test_stop_texts_are_what_the_template_writes_after_an_answer(template: str, stop: tuple[str, ...]) -> None:
    assert stop_texts(template, SPECIAL, {"<|im_end|>", "<|end|>", "<end_of_turn>", "<eos>", "<bos>"}) == stop


def test_the_first_special_token_is_the_earliest_and_the_longest() -> None:
    assert first_special("x<a><ab>", {"<ab>", "<a>", "<"}) == "<a>"
    assert first_special("nothing", {"<a>", ""}) == ""


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('never') }}", "{% for %}", "{{ messages[9].content }}", "{{ ''.__class__.mro() }}"],
)
def test_a_template_that_cannot_be_rendered_is_a_base_model_error(template: str) -> None:
    with pytest.raises(BaseModelError, match=r"chat template cannot be used[\s\S]*chat_template\.jinja"):
        template_in_force(template, SPECIAL, {"<eos>"})


def test_a_refusal_has_the_template_s_own_words() -> None:
    with pytest.raises(TemplateRefusal, match="roles must alternate"):
        render(GEMMA, [TURNS[1], TURNS[1]], SPECIAL)


def test_llama_cpp_renders_our_templates_alike(cache: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Other people's servers take the template out of the exported file: it must mean the same there."""
    import xllamacpp
    from gguf_files import write_llama_gguf

    rendered: dict[str, Any] = {}
    for name, text in (
        ("gemma", templates.GEMMA),
        ("chatml", templates.CHATML),
        ("folded", templates._FOLDED + DROPPING),
    ):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(write_llama_gguf(checkpoints["llama"], tmp_path / f"{name}.gguf", text=text))
        parameters.n_ctx, parameters.cpuparams.n_threads, parameters.warmup = 64, 1, False
        server = xllamacpp.Server(parameters)
        rendered[name] = _apply_template(server.listening_address, TURNS[:2])
        # llama.cpp takes the begin token off the rendering and puts its own in front where the file asks for one.
        special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
        ours = render(text, TURNS[:2], special, generation=True)
        assert rendered[name].removeprefix("<|im_start|>") == ours.removeprefix("<|im_start|>")
    assert "Be brief." in rendered["folded"]


def _apply_template(address: str, messages: list[dict[str, str]]) -> str:
    import json
    import urllib.request

    body = json.dumps({"messages": messages}).encode()
    request = urllib.request.Request(f"{address}/apply-template", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["prompt"])
