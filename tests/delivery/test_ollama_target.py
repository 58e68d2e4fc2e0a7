"""The Modelfile: read by a parser of its own, and its Go template run against ours."""

import json
import re
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.delivery.gotemplates import compiled, executed, find_go, interpreted
from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.bases.templates import CHATML, GEMMA, PLAIN, render, template_in_force
from werkmeister.consulting.expert import AskSettings
from werkmeister.delivery.bundle import place_order
from werkmeister.delivery.ollama_target import modelfile
from werkmeister.delivery.ollama_template import go_template, read_pieces
from werkmeister.errors import ArtefactError, DataError, ParityError
from werkmeister.exporting import make_bundle

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
DEFAULT_SYSTEM = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set s = '<<SYS>>' + messages[0]['content'] + '<</SYS>>' %}"
    "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}[INST] {{ (s if loop.first else '') + m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}"
    "<t>{{ m['role'] }}:{{ m['content'] }}</t>{% endfor %}{% if add_generation_prompt %}<t>assistant:{% endif %}"
)
BRACES = (
    "{% for m in messages %}{{ '{{' + m['role'] + '}} ' + m['content'] + '\\n' }}{% endfor %}{{ '{{assistant}} ' }}"
)
TEMPLATES = {
    "chatml": CHATML,
    "gemma": GEMMA,
    "plain": PLAIN.replace("with_bos", "true"),
    "default system": DEFAULT_SYSTEM,
    "llama 2": LLAMA2,
    "folded system": template_in_force(NO_SYSTEM, SPECIAL, ["</t>"]).text,
    "braces": BRACES,
}
WORDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12).filter(lambda text: text.strip())


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    program = find_go()
    if program is None:
        pytest.skip("no Go on this machine: install golang-go, or name the program in WERKMEISTER_GO")
    return compiled(tmp_path_factory.mktemp("go"), program)


def conversations(contents):
    """With and without a system message, of one and of several turns, each ending with a question."""
    for roles in ("user", "system user", "user assistant user", "system user assistant user assistant user"):
        yield [{"role": r, "content": c} for r, c in zip(roles.split(), contents, strict=False)]


@pytest.mark.parametrize("name", TEMPLATES)
@given(contents=st.lists(WORDS, min_size=6, max_size=6))
@settings(max_examples=25, deadline=None)
def test_the_go_template_writes_what_the_jinja_template_writes(name, contents):
    template = TEMPLATES[name]
    written = go_template(read_pieces(template, SPECIAL))
    for messages in conversations(contents):
        assert interpreted(written, messages) == render(template, messages, SPECIAL, generation=True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_go_itself_writes_the_same(name, go):
    template = TEMPLATES[name]
    written = go_template(read_pieces(template, SPECIAL))
    for messages in conversations(["Sei kurz.", 'a {{ b }} "c"', "<d>&ä", "e\nf", "g'h`", "日本語"]):
        assert executed(go, written, messages) == render(template, messages, SPECIAL, generation=True)


def test_a_template_that_looks_at_more_than_the_roles_is_refused():
    counting = (
        "{% for m in messages %}[{{ loop.index }} {{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    with pytest.raises(ParityError, match="Ollama"):
        read_pieces(counting, SPECIAL)
    with pytest.raises(ParityError) as caught:
        read_pieces(NO_SYSTEM, SPECIAL)
    assert "no system" in caught.value.problems[0]


@pytest.fixture(scope="module")
def bundle(built, tmp_path_factory):
    return make_bundle(
        "ollama", built, tmp_path_factory.mktemp("ollama") / "made", settings=AskSettings(max_tokens=33)
    ).path


def parsed(text):
    """Instruction → values, as Ollama's documentation describes a Modelfile: a value runs to the end of its line, or
    between three quotation marks."""
    found = {}
    at = 0
    pattern = re.compile(r'([A-Za-z]+) +(?:"""(.*?)"""|([^\n]*))(?:\n|$)', re.S)
    while at < len(text):
        match = pattern.match(text, at)
        assert match, f"no instruction at {text[at : at + 40]!r}"
        value = match[2] if match[2] is not None else match[3]
        found.setdefault(match[1].upper(), []).append(value)
        at = match.end()
    return found


def test_the_modelfile_says_all_that_decides_an_answer(bundle, built):
    said = parsed((bundle / "Modelfile").read_text("utf-8"))
    facts = json.loads((built / "artefacts/export/manifest.json").read_text("utf-8"))["facts"]
    assert (bundle / said["FROM"][0]).is_file()
    assert said["SYSTEM"] == [facts["system"]]
    parameters = [value.split(" ", 1) for value in said["PARAMETER"]]
    assert [json.loads(value) for key, value in parameters if key == "stop"] == facts["stop"]
    known = {key: value for key, value in parameters if key != "stop"}
    assert known.items() >= {"num_ctx": str(facts["context_length"]), "num_predict": "33", "temperature": "0"}.items()
    assert (known["top_k"], float(known["repeat_penalty"])) == ("1", 1)


def test_its_template_writes_what_the_model_files_own_template_writes(bundle, built):
    said = parsed((bundle / "Modelfile").read_text("utf-8"))
    (model,) = bundle.glob("*.gguf")
    template = read_gguf_header(model).metadata["tokenizer.chat_template"]
    for messages in conversations(["Be brief.", "What?", "That.", "Why?", "So.", "Oh?"]):
        assert interpreted(said["TEMPLATE"][0], messages) == render(template, messages, {}, generation=True)


def test_the_preset_of_lm_studio_sets_the_same(bundle, built):
    facts = json.loads((built / "artefacts/export/manifest.json").read_text("utf-8"))["facts"]
    preset = json.loads((bundle / "lm-studio.preset.json").read_text("utf-8"))
    fields = {entry["key"]: entry["value"] for entry in preset["operation"]["fields"]}
    assert fields["llm.prediction.systemPrompt"] == facts["system"]
    assert fields["llm.prediction.stopStrings"] == facts["stop"]
    assert (fields["llm.prediction.temperature"], fields["llm.prediction.topKSampling"]) == (0.0, 1)
    assert fields["llm.prediction.maxPredictedTokens"] == {"checked": True, "value": 33}
    assert preset["load"]["fields"] == [{"key": "llm.load.contextLength", "value": facts["context_length"]}]


def test_a_system_message_that_a_modelfile_cannot_hold_is_refused(built, tmp_path):
    shutil.copytree(built / "artefacts/export", tmp_path / "artefacts/export")
    order = place_order(tmp_path)
    object.__setattr__(order.found, "system", 'Say """so""" twice')
    with pytest.raises(DataError, match="quotation marks"):
        modelfile(order, 64)


def test_an_expert_that_was_never_built_is_named_with_the_command(tmp_path):
    with pytest.raises(ArtefactError) as caught:
        make_bundle("ollama", tmp_path, tmp_path / "out")
    assert "werkmeister build" in caught.value.hint
