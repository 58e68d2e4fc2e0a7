"""The phone bundle: with a stand-in for LiteRT's environment here, and with the real one where a machine has it.

The real run takes minutes, 4 GB of memory and an environment of gigabytes: it is marked slow and asks for the Python of
that environment in WERKMEISTER_LITERT_PYTHON. `docs/phone.log` is the record of one.
"""

import json
import os
import re
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from werkmeister.bases.templates import CHATML, GEMMA, render
from werkmeister.cli import main
from werkmeister.delivery import litert
from werkmeister.delivery.bundle import place_order
from werkmeister.delivery.litert_script import FLATTEN
from werkmeister.delivery.phone_target import CONTEXT, phone_bundle
from werkmeister.delivery.verification import verify_bundle
from werkmeister.engines.golden import read_golden
from werkmeister.errors import EngineError, MachineError, ParityError
from werkmeister.exporting import make_bundle

# It answers as it was told to; "make" writes a file, as LiteRT does.
STAND_IN = """#!{python}
import json, pathlib, sys
if sys.argv[1] == "-c":
    sys.exit({missing})
_, script, command, *given = sys.argv
print("a library says something")
if command == "make":
    merged, output, context = given
    assert (pathlib.Path(merged) / "model.safetensors").is_file()
    (pathlib.Path(output) / "model.litertlm").write_bytes(b"LITERTLM")
    found = dict(seconds=1.5, peak_bytes=7, recipe="r", context_length=int(context))
else:
    asked = [json.loads(line) for line in open(given[1], encoding="utf-8")]
    answers = [golden["answer"] for golden in asked]
    answers[:{wrong}] = ["other"] * {wrong}
    found = dict(answers=answers, load_seconds=1.0, prompt_tokens_per_second=800.0, answer_tokens_per_second=None)
{extra}
print(json.dumps(found))
"""


@pytest.fixture
def stand_in(tmp_path):
    if sys.platform == "win32":
        pytest.skip("a script with a first line that names its program does not run on Windows")

    def made(wrong=0, missing=0, extra=""):
        file = tmp_path / f"python-{wrong}-{missing}-{len(extra)}"
        file.write_text(STAND_IN.format(python=sys.executable, wrong=wrong, missing=missing, extra=extra))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file

    return made


def test_the_bundle_says_what_was_verified_and_what_was_not(built, tmp_path, stand_in):
    made = make_bundle("phone", built, tmp_path / "phone", python=stand_in(wrong=1))
    golden = read_golden(made.path / "expected.litertlm.jsonl")
    text = (made.path / "README.md").read_text("utf-8")
    assert f"{len(golden) - 1} of {len(golden)} greedy" in text
    assert "prompt 800 and answer not measured tokens/s" in text
    assert "**Not verified:** any phone" in text
    assert "no phone was tried" in made.words()
    report = json.loads((made.path / "litert.json").read_text("utf-8"))
    assert report["asking"]["equal"] == [False] + [True] * (len(golden) - 1)
    assert report["conversion"]["context_length"] == min(CONTEXT, 512)
    assert (made.path / "model.litertlm").read_bytes() == b"LITERTLM"
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"phone"}, "nothing is left beside the bundle"


def test_verify_asks_both_models_and_compares_with_what_each_said_at_export(built, tmp_path, stand_in):
    made = make_bundle("phone", built, tmp_path / "phone", python=stand_in(wrong=1))
    same = verify_bundle(made.path, python=stand_in(wrong=1))
    count = len(read_golden(made.path / "expected.jsonl")) + len(read_golden(made.path / "expected.litertlm.jsonl"))
    assert (same.golden, same.differences) == (count, ())
    other = verify_bundle(made.path, python=stand_in(wrong=2))
    assert len(other.differences) == 1
    assert "'other'" in other.differences[0]


def test_a_gguf_over_the_limit_is_split_and_asked_from_its_first_file(built, tmp_path, stand_in):
    python = stand_in()
    made = phone_bundle(place_order(built), tmp_path / "phone", python, largest=40_000)
    first = f"model-Q8_0-00001-of-{made.shards:05}.gguf"
    assert made.shards > 1 and first in made.files and "model-Q8_0.gguf" not in made.files
    assert f"| `{first}` | llama.cpp on a phone. It is the first of {made.shards} files" in (
        made.path / "README.md"
    ).read_text("utf-8")
    found = verify_bundle(made.path, python=python)
    assert found.golden >= 6 and found.differences == ()


def test_without_litert_verify_says_that_its_model_was_not_asked(built, tmp_path, stand_in, monkeypatch):
    made = make_bundle("phone", built, tmp_path / "phone", python=stand_in())
    monkeypatch.setenv("WERKMEISTER_CACHE", str(tmp_path / "empty"))
    found = verify_bundle(made.path)
    assert found.differences == ()
    assert "model.litertlm was not asked" in found.notes[0]


def test_a_model_that_answers_otherwise_is_not_shipped(built, tmp_path, stand_in):
    with pytest.raises(ParityError, match="LiteRT-LM gives"):
        make_bundle("phone", built, tmp_path / "phone", python=stand_in(wrong=4))
    assert not (tmp_path / "phone").exists()


def test_a_python_without_the_packages_and_a_failed_conversion_are_told(built, tmp_path, stand_in):
    for python in (stand_in(missing=1), tmp_path / "nowhere"):
        with pytest.raises(MachineError) as caught:
            make_bundle("phone", built, tmp_path / "phone", python=python)
        assert f"{python} -m pip install litert-torch" in caught.value.hint
    broken = stand_in(extra="print('out of memory', file=sys.stderr); sys.exit(3)")
    with pytest.raises(EngineError) as failed:
        make_bundle("phone", built, tmp_path / "phone", python=broken)
    assert failed.value.problems == ("out of memory",)


def test_python_is_refused_for_another_target(built):
    done = CliRunner().invoke(main, ["export", str(built), "--target", "gguf", "--python", sys.executable])
    assert done.exit_code == 2
    assert "--python is for --target phone" in done.stderr


@pytest.mark.slow  # an environment takes half a minute
def test_an_environment_that_cannot_be_made_is_told_with_pips_own_words(built, tmp_path, monkeypatch):
    monkeypatch.setenv("WERKMEISTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(litert, "REQUIREMENTS", ("no such requirement!",))
    with pytest.raises(MachineError, match="pip install failed") as caught:
        make_bundle("phone", built, tmp_path / "phone")
    assert "no such requirement" in " ".join(caught.value.problems)


@pytest.mark.parametrize("template", [CHATML, GEMMA], ids=["chatml", "gemma"])
def test_a_template_for_texts_takes_lists_of_parts_and_writes_the_same(template):
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    turns = [("system", "Be brief."), ("user", "What?"), ("assistant", "That."), ("user", "Why? ä")]
    plain = [{"role": role, "content": text} for role, text in turns]
    parts = [
        {"role": role, "content": [{"type": "text", "text": text[:3]}, {"type": "text", "text": text[3:]}]}
        for role, text in turns
    ]
    wanted = render(template, plain, special, generation=True)
    assert render(FLATTEN + template, parts, special, generation=True) == wanted
    assert render(FLATTEN + template, plain, special, generation=True) == wanted


def test_the_starting_points_hold_the_system_message_and_the_prompt(built, tmp_path, stand_in):
    folder = make_bundle("phone", built, tmp_path / "phone", python=stand_in()).path
    system = json.loads((built / "artefacts/export/manifest.json").read_text("utf-8"))["facts"]["system"]
    for name in ("LiteRtChat.kt", "LiteRtChat.swift", "LlamaCppChat.kt"):
        assert json.dumps(system) in (folder / name).read_text("utf-8"), name
    swift = (folder / "LlamaCppChat.swift").read_text("utf-8")
    before, after = (json.loads(text) for text in re.search(r"return (\".*\") \+ question \+ (\".*\")", swift).groups())
    template = CHATML.replace("\n{%", "{%") if "<|im_start|>" in before else ""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Was?"}]
    assert f"{before}Was?{after}" == render(template, messages, {}, generation=True)
    assert not any("@" + mark + "@" in swift for mark in ("SYSTEM", "BEFORE", "AFTER", "TOKENS"))


@pytest.mark.slow
def test_litert_lm_answers_as_transformers_does(built, tmp_path):
    python = os.environ.get("WERKMEISTER_LITERT_PYTHON")
    if not python:
        pytest.skip("name the Python of an environment with litert-torch and litert-lm in WERKMEISTER_LITERT_PYTHON")
    made = make_bundle("phone", built, tmp_path / "phone", python=Path(python))
    report = json.loads((made.path / "litert.json").read_text("utf-8"))
    assert all(report["asking"]["equal"])
    assert verify_bundle(made.path, python=Path(python)).differences == ()
