"""The bundles that hold a model file or an adapter, and `werkmeister verify`, which asks them again."""

import hashlib
import json
import shutil

import pytest
from click.testing import CliRunner

from werkmeister.artefact import making
from werkmeister.bases.find import find_base
from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.building.convert import CheckpointWeights
from werkmeister.building.quantise import quantise
from werkmeister.cli import main
from werkmeister.consulting.expert import AskSettings, ask, open_expert
from werkmeister.delivery.browser import browser_bundle
from werkmeister.delivery.bundle import names_in, place_order
from werkmeister.delivery.gguf_target import gguf_bundle
from werkmeister.delivery.verification import verify_bundle
from werkmeister.engines.golden import read_golden, replay
from werkmeister.engines.llama import LlamaEngine
from werkmeister.errors import ArtefactError, BaseModelError, DataError, ParityError
from werkmeister.exporting import make_bundle
from werkmeister.progress import Silent

TARGETS = ("gguf", "ollama", "browser", "huggingface")


@pytest.fixture(scope="module")
def bundles(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    return {name: make_bundle(name, built, folder / name) for name in TARGETS}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def manifest_of(built):
    return read(built / "artefacts/export/manifest.json")


@pytest.mark.parametrize("name", TARGETS)
def test_a_bundle_is_whole_and_its_golden_answers_come_again(name, bundles):
    made = bundles[name]
    listed = read(made.path / "bundle.json")["outputs"]
    assert set(listed) == set(names_in(made.path)) - {"bundle.json"}
    found = verify_bundle(made.path)
    golden = read_golden(made.path / "expected.jsonl")
    assert len(golden) >= 3
    assert (found.target, found.golden, found.differences) == (name, len(golden), ())
    assert found.problem() is None
    assert made.size == sum((made.path / file).stat().st_size for file in names_in(made.path))


@pytest.mark.parametrize("name", ["gguf", "ollama", "browser"])
def test_the_golden_answers_are_those_that_the_expert_gives(name, bundles, built):
    with open_expert(built, settings=AskSettings(max_tokens=48), threads=1) as expert:
        for golden in read_golden(bundles[name].path / "expected.jsonl"):
            assert golden.messages[0].content == expert.system
            assert ask(expert, golden.messages[-1].content).text == golden.answer


def test_golden_prompts_are_questions_of_the_exam_and_each_file_has_its_own(built):
    exam = {
        json.loads(line)["messages"][-2]["content"]
        for line in (built / "artefacts/dataset/exam.jsonl").read_text("utf-8").splitlines()
    }
    outputs = manifest_of(built)["outputs"]
    recorded = [name for name in outputs if name.endswith(".expected.jsonl")]
    assert {"model-Q8_0.expected.jsonl", "model-Q4_K_M.expected.jsonl", "adapter.expected.jsonl"} <= set(recorded)
    for name in recorded:
        asked = {golden.messages[-1].content for golden in read_golden(built / "artefacts/export" / name)}
        assert asked and asked <= exam


def test_no_bundle_says_where_it_was_made(bundles, built):
    for made in bundles.values():
        for name in names_in(made.path):
            if name.endswith((".json", ".md", ".txt", "Modelfile")) and not name.startswith("vendor/"):
                text = (made.path / name).read_text("utf-8")
                assert str(built) not in text, (made.target, name)
                assert str(made.path) not in text, (made.target, name)


def test_what_is_written_for_people_names_score_licence_and_system_message(bundles, built):
    text = (bundles["gguf"].path / "README.md").read_text("utf-8")
    assert manifest_of(built)["facts"]["system"] in text
    rows = read(built / "artefacts/exam/exam.json")["rows"]
    row = next(row for row in rows if row["answerer"] == "Q8_0")
    assert f"{row['score']:.1%} right" in text
    assert f"n = {row['n']}" in text
    assert "made from base" in (bundles["gguf"].path / "LICENSES.txt").read_text("utf-8")


def test_the_other_quantisation_can_be_taken(built, tmp_path):
    made = make_bundle("gguf", built, tmp_path / "small", file="Q4_K_M")
    assert (made.path / "model-Q4_K_M.gguf").is_file()
    assert verify_bundle(made.path).differences == ()


def test_a_model_in_shards_is_asked_as_a_whole(built, tmp_path):
    made = browser_bundle(built, tmp_path / "web", whole=1, shard=40_000)
    assert made.shards > 1
    found = verify_bundle(made.path)
    assert found.golden >= 3
    assert found.differences == ()


def test_a_model_over_the_limit_is_split_and_llama_cpp_opens_the_first_file(built, tmp_path):
    made = gguf_bundle(place_order(built), tmp_path / "gguf", largest=40_000)
    names = [f"model-Q8_0-{number:05}-of-{made.shards:05}.gguf" for number in range(1, made.shards + 1)]
    assert made.shards > 1 and made.model == names[0]
    assert set(names) <= set(made.files) and "model-Q8_0.gguf" not in made.files
    assert f"in {made.shards} files" in made.words()
    text = (made.path / "README.md").read_text("utf-8")
    assert f"llama-server -m {names[0]}" in text and f"first of {made.shards} files" in text
    found = verify_bundle(made.path)
    assert found.golden >= 3 and found.differences == ()
    (made.path / names[-1]).unlink()
    with pytest.raises(ArtefactError) as caught:
        verify_bundle(made.path)
    assert caught.value.problems == (f"{names[-1]} is missing",)


def test_a_model_of_just_the_limit_stays_one_file_with_the_hash_of_the_export(built, tmp_path):
    size = (built / "artefacts/export/model-Q8_0.gguf").stat().st_size
    made = gguf_bundle(place_order(built), tmp_path / "gguf", largest=size)
    assert made.shards == 1
    listed, known = read(made.path / "bundle.json")["outputs"], manifest_of(built)["outputs"]
    assert listed["model-Q8_0.gguf"]["sha256"] == known["model-Q8_0.gguf"]["sha256"]
    assert "keep them together" not in (made.path / "README.md").read_text("utf-8")


def copied(bundle, folder):
    shutil.copytree(bundle.path, folder)
    return folder


def forged(folder, name):
    """Bring the manifest in line with a changed file, as one who wants to hide the change would."""
    manifest = read(folder / "bundle.json")
    content = (folder / name).read_bytes()
    manifest["outputs"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_changed_a_missing_and_a_foreign_file_are_named_together(bundles, tmp_path):
    folder = copied(bundles["gguf"], tmp_path / "copy")
    model = folder / "model-Q8_0.gguf"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    (folder / "LICENSES.txt").unlink()
    (folder / "stray.bin").write_bytes(b"x")
    with pytest.raises(ArtefactError) as caught:
        verify_bundle(folder)
    told = " ".join(caught.value.problems)
    assert "model-Q8_0.gguf was changed" in told
    assert "LICENSES.txt is missing" in told
    assert "stray.bin is not part of it" in told


def test_a_model_that_was_swapped_is_found_by_its_answers(bundles, built, tmp_path):
    folder = copied(bundles["gguf"], tmp_path / "copy")
    golden = folder / "expected.jsonl"
    lines = [json.loads(line) for line in golden.read_text("utf-8").splitlines()]
    lines[0]["answer"] += " and more"
    golden.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    forged(folder, "expected.jsonl")
    found = verify_bundle(folder)
    assert len(found.differences) == 1
    assert "and more" in found.differences[0]
    assert isinstance(found.problem(), ParityError)
    assert found.record()["equal"] == len(lines) - 1


def test_another_template_and_too_long_a_context_are_refused(bundles, tmp_path):
    folder = copied(bundles["gguf"], tmp_path / "copy")
    manifest = read(folder / "bundle.json")
    manifest["serving"] |= {"template": "0" * 64, "context_length": 10**6}
    (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtefactError) as caught:
        verify_bundle(folder)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("content", [None, "{", "[]", '{"kind": "gguf"}', '{"kind": 1, "format": 99}'])
def test_a_folder_that_is_no_bundle_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "bundle.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtefactError) as caught:
        verify_bundle(tmp_path)
    assert "werkmeister export" in caught.value.hint


def test_the_verbs_exit_code_follows_the_tree_of_errors(bundles, tmp_path):
    run = CliRunner().invoke
    good = run(main, ["verify", str(bundles["gguf"].path), "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["differences"] == []
    folder = copied(bundles["gguf"], tmp_path / "copy")
    (folder / "expected.jsonl").write_text('{"messages": [{"role": "user", "content": "?"}], "answer": "\\u0007"}\n')
    assert run(main, ["verify", str(folder)]).exit_code == 2
    forged(folder, "expected.jsonl")
    bad = run(main, ["verify", str(folder), "--json"])
    assert bad.exit_code == 1
    assert len(json.loads(bad.stdout)["differences"]) == 1


def test_the_adapter_travels_without_its_base_and_with_its_hash(built, tmp_path):
    made = make_bundle("adapter", built, tmp_path / "adapter")
    manifest, facts = read(made.path / "bundle.json"), manifest_of(built)["facts"]
    assert manifest["base"]["files"] == facts["base_file"]
    assert read_gguf_header(made.path / "adapter.gguf").metadata["general.type"] == "adapter"
    config = read(made.path / "adapter/adapter_config.json")
    assert config["base_model_name_or_path"] == "base"
    trained = built / "artefacts/train/adapter/adapter_model.safetensors"
    assert (made.path / "adapter/adapter_model.safetensors").read_bytes() == trained.read_bytes()
    found = verify_bundle(made.path)
    assert (found.golden, len(found.notes)) == (0, 1)
    assert "--base" in found.notes[0]
    with pytest.raises(DataError, match="Q8_0"):
        make_bundle("adapter", built, tmp_path / "other", file="Q8_0")


@pytest.fixture(scope="module")
def laid(built, tmp_path_factory):
    """The adapter's bundle and the base in safetensors that it belongs to as a GGUF."""
    folder = tmp_path_factory.mktemp("laid")
    weights = CheckpointWeights(find_base(str(built / "base"), progress=Silent()))
    quantise(weights, folder / "base.gguf", "F16", progress=Silent())
    return make_bundle("adapter", built, folder / "adapter"), folder / "base.gguf"


def test_the_adapter_on_its_base_gives_the_golden_answers_and_the_base_alone_does_not(laid):
    made, base = laid
    golden = read_golden(made.path / "expected.jsonl")
    found = verify_bundle(made.path, base=base)
    assert (found.golden, found.differences, found.notes) == (len(golden), (), ())
    assert len(golden) >= 3
    with LlamaEngine(base, template=(made.path / "chat_template.jinja").read_text("utf-8")) as engine:
        assert list(replay(engine, golden, stop=read(made.path / "bundle.json")["serving"]["stop"]))


def test_an_adapter_is_laid_over_no_other_base(laid, built, tmp_path):
    made, base = laid
    verb = ["verify", str(made.path), "--base"]
    assert CliRunner().invoke(main, [*verb, str(base)]).exit_code == 0
    with pytest.raises(BaseModelError, match="there is no file"):
        verify_bundle(made.path, base=tmp_path / "nowhere.gguf")
    # Of a base in safetensors any conversion may be used: another base is found by its answers.
    other = built / "artefacts/export/model-Q8_0.gguf"
    assert verify_bundle(made.path, base=other).differences
    assert CliRunner().invoke(main, [*verb, str(other)]).exit_code == 1
    # A base that is a GGUF itself must be the very file.
    folder = copied(made, tmp_path / "copy")
    manifest = read(folder / "bundle.json")
    manifest["base"]["files"] = {"base.gguf": {"sha256": hashlib.sha256(base.read_bytes()).hexdigest()}}
    (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert verify_bundle(folder, base=base).differences == ()
    with pytest.raises(BaseModelError, match="not the base that the adapter was trained on"):
        verify_bundle(folder, base=other)


@pytest.mark.parametrize("name", ["adapter", "huggingface"])
def test_an_adapter_that_was_trained_after_the_export_is_not_shipped(built, tmp_path, name):
    expert = tmp_path / "expert"
    shutil.copytree(built, expert)
    train = expert / "artefacts/train"
    with making("train", train, version=99, inputs={}, settings={}) as draft:
        shutil.copytree(built / "artefacts/train/adapter", draft.path / "adapter")
        draft.facts |= read(built / "artefacts/train/manifest.json")["facts"]
    with pytest.raises(ArtefactError, match="is not the training"):
        make_bundle(name, expert, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_with_another_template_is_refused(laid, tmp_path):
    folder = copied(laid[0], tmp_path / "copy")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text("utf-8") + "{# another #}", encoding="utf-8")
    forged(folder, template.name)
    with pytest.raises(ArtefactError, match="not the one described"):
        verify_bundle(folder)


def test_peft_lays_the_shipped_adapter_over_the_base_and_gets_the_merged_logits(bundles, built):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = bundles["huggingface"].path
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    base = AutoModelForCausalLM.from_pretrained(built / "base", dtype=torch.float32)
    laid = PeftModel.from_pretrained(base, folder / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for golden in read_golden(folder / "expected.jsonl"):
        messages = [{"role": m.role, "content": m.content} for m in golden.messages]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.inference_mode():
            ours, theirs = (model(input_ids=ids).logits.log_softmax(-1) for model in (merged, laid))
            written = merged.generate(input_ids=ids, max_new_tokens=golden.max_tokens, do_sample=False)
        # The base is stored in 16 bits, and so is what was merged into it.
        assert (ours - theirs).abs().max() < 0.1
        assert tokenizer.decode(written[0][ids.shape[1] :], skip_special_tokens=True) == golden.answer


def test_the_model_card_begins_with_what_the_hub_reads(bundles):
    head = (bundles["huggingface"].path / "README.md").read_text("utf-8").split("---")[1]
    assert "library_name: transformers" in head
    assert 'base_model: "base"' in head
