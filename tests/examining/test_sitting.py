import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.test_energy import zone
from werkmeister.chat import Example, conversation
from werkmeister.engines.engine import Sampling
from werkmeister.engines.scripted import ScriptedEngine
from werkmeister.errors import ContextError, EngineError
from werkmeister.examining.answering import from_engine, from_function
from werkmeister.examining.marks import MARKS
from werkmeister.examining.sitting import Job, read_record, sit_apart, sit_exam

EXAMPLES = [Example(prompt=conversation(f"say {i}"), target=f"this is number {i}") for i in range(12)]
ANSWERS = {e.question: (e.target if i % 3 else "nothing") for i, e in enumerate(EXAMPLES)}
PROMPTS = {e.id: e.prompt for e in EXAMPLES}


def scripted(answers=ANSWERS, seconds_a_token=0.0, max_tokens=20) -> Job:
    options = {"answers": answers, "seconds_a_token": seconds_a_token, "max_tokens": max_tokens, "stop": []}
    return Job(name="scripted", kind="scripted", options=options)


def test_any_callable_sits_the_exam_and_gets_its_score():
    sitting = sit_exam(from_function("callable", ANSWERS.__getitem__), EXAMPLES, MARKS["exact"])
    assert [a.mark.score for a in sitting.answered] == [float(i % 3 > 0) for i in range(12)]
    assert [a.example for a in sitting.answered] == EXAMPLES
    assert sitting.tokens_per_second is None and sitting.bytes is None


def test_an_engine_sits_the_exam_and_its_speed_is_that_of_answers_made_alone():
    engine = ScriptedEngine(ANSWERS, seconds_a_token=0.005)
    sitting = sit_exam(from_engine("engine", engine, Sampling(max_tokens=20)), EXAMPLES, MARKS["exact"])
    assert sum(a.mark.score for a in sitting.answered) == 8
    assert 100 < sitting.tokens_per_second < 201
    assert 0.004 < sitting.first_token_seconds < 0.05


def test_a_process_of_its_own_gives_the_same_answers_and_its_own_peak_of_memory(tmp_path):
    ballast = bytearray(400_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    sitting = sit_apart(scripted(), PROMPTS, EXAMPLES, MARKS["exact"], tmp_path)
    here = sit_exam(from_function("callable", ANSWERS.__getitem__), EXAMPLES, MARKS["exact"])
    assert [a.mark for a in sitting.answered] == [a.mark for a in here.answered]
    assert 1_000_000 < sitting.peak_memory < 300_000_000, "the parent's memory must not count"


def test_the_energy_of_an_answer_is_what_the_processors_took_meanwhile_over_the_answers(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0, most=10**15)
    told, done = [0], threading.Event()

    def count():
        while not done.wait(0.01):
            told[0] += 1_000_000
            whole = tmp_path / "new"
            whole.write_text(f"{told[0]}\n")
            whole.replace(counter)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        job = scripted(seconds_a_token=0.02)
        sitting = sit_apart(job, PROMPTS, EXAMPLES, MARKS["exact"], tmp_path / "sat", powercap=tmp_path)
    finally:
        done.set()
        thread.join()
    assert 0 < sitting.joules * len(EXAMPLES) < told[0] / 1e6
    unread = sit_apart(scripted(), PROMPTS, EXAMPLES, MARKS["exact"], tmp_path / "other", powercap=tmp_path / "none")
    assert unread.joules is None


def test_an_exam_that_was_killed_asks_nothing_twice(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sitting import *
sit_apart(scripted(seconds_a_token=0.05), PROMPTS, EXAMPLES, MARKS["exact"], Path({str(tmp_path)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    record = tmp_path / "answers.jsonl"
    deadline = time.time() + 60
    while time.time() < deadline and not (record.is_file() and record.read_bytes().count(b"\n") >= 3):
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(0.5)
    before = record.read_bytes()
    answered = before.count(b"\n")
    assert 3 <= answered < len(EXAMPLES), "the child must end with its parent"
    with record.open("ab") as file:
        file.write(b'{"id": "cut off in the mid')
    sitting = sit_apart(scripted(), PROMPTS, EXAMPLES, MARKS["exact"], tmp_path)
    assert [a.mark.score for a in sitting.answered] == [float(i % 3 > 0) for i in range(12)]
    assert record.read_bytes().startswith(before)
    asked = [json.loads(line)["id"] for line in record.read_text().splitlines()]
    assert sorted(asked) == sorted(PROMPTS)
    assert len((tmp_path / "questions.jsonl").read_text().splitlines()) == len(EXAMPLES) - answered


def test_a_finished_sitting_starts_no_process_again(tmp_path):
    first = sit_apart(scripted(), PROMPTS, EXAMPLES, MARKS["exact"], tmp_path)
    (tmp_path / "job.json").unlink()
    assert sit_apart(scripted(answers={}), PROMPTS, EXAMPLES, MARKS["exact"], tmp_path) == first
    assert not (tmp_path / "job.json").exists()


def test_odd_line_ends_in_an_answer_do_not_break_its_record(tmp_path):
    odd = [Example(prompt=conversation("say it"), target="one\u2028two\x85three\r\nfour")]
    job, prompts = scripted(answers={"say it": odd[0].target}), {odd[0].id: odd[0].prompt}
    first = sit_apart(job, prompts, odd, MARKS["exact"], tmp_path)
    assert sit_apart(job, prompts, odd, MARKS["exact"], tmp_path) == first
    assert first.answered[0].answer == odd[0].target


def test_the_error_of_the_process_is_raised_here_with_its_kind_and_next_step(tmp_path):
    with pytest.raises(ContextError, match="lower max_tokens"):
        sit_apart(scripted(max_tokens=100_000), PROMPTS, EXAMPLES, MARKS["exact"], tmp_path)


def test_a_crash_names_the_answerer_and_the_end_of_its_log(tmp_path):
    job = Job(name="Q9", kind="no such kind", options={})
    with pytest.raises(EngineError, match=r"(?s)Q9 broke off in the exam.*KeyError: 'no such kind'"):
        sit_apart(job, PROMPTS, EXAMPLES, MARKS["exact"], tmp_path)


def test_a_record_without_file_or_rows_is_empty(tmp_path):
    assert read_record(tmp_path / "none.jsonl") == {}
    (tmp_path / "cut.jsonl").write_text('{"id": ')
    assert read_record(tmp_path / "cut.jsonl") == {}


def test_a_gguf_file_sits_in_its_own_process_as_it_answers_here(tmp_path):
    pytest.importorskip("xllamacpp")
    sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
    import tiny_gguf

    from werkmeister.engines.llama import LlamaEngine

    file = tiny_gguf.write_model(tmp_path / "tiny.gguf")
    options = {"file": str(file), "context_length": 128, "threads": 1, "slots": 1, "template": None}
    options |= {"max_tokens": 8, "stop": []}
    job = Job(name="tiny", kind="llama", options=options)
    sitting = sit_apart(job, PROMPTS, EXAMPLES, MARKS["token_f1"], tmp_path / "apart")
    with LlamaEngine(file, context_length=128, threads=1) as engine:
        here = [reply.text for reply in engine.replies(list(PROMPTS.values()), Sampling(max_tokens=8))]
    assert [a.answer for a in sitting.answered] == here
    assert sitting.bytes == file.stat().st_size
    assert sitting.tokens_per_second > 0 and sitting.load_seconds > 0 and sitting.first_token_seconds > 0
    assert "tiny.gguf, 1 thread" in sitting.about


@pytest.mark.slow
def test_a_base_with_its_peft_adapter_sits_in_its_own_process_and_the_adapter_counts(tmp_path, monkeypatch):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from dataclasses import asdict

    from werkmeister.bases.find import find_base
    from werkmeister.bases.load import load_model
    from werkmeister.progress import Silent

    monkeypatch.setenv("WERKMEISTER_CACHE", str(tmp_path / "cache"))
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import checkpoints

    base = find_base(str(checkpoints.write_llama(tmp_path / "tiny")), progress=Silent())
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    peft.get_peft_model(load_model(base, dtype=torch.float32), config).save_pretrained(tmp_path / "adapter")
    fields = asdict(base) | {"folder": str(base.folder), "gguf": None}
    sittings = []
    for name, adapter in (("base", None), ("adapter", str(tmp_path / "adapter"))):
        options = {"base": fields, "adapter": adapter, "max_tokens": 8, "stop": list(base.stop)}
        job = Job(name=name, kind="transformers", options=options)
        sittings.append(sit_apart(job, PROMPTS, EXAMPLES, MARKS["token_f1"], tmp_path / name))
    plain, tuned = sittings
    assert tuned.bytes - plain.bytes == (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert tuned.tokens_per_second > 0 and "PEFT adapter" in tuned.about
    assert [a.answer for a in plain.answered] != [a.answer for a in tuned.answered]
