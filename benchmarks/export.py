"""What an export costs: every quantisation of an expert with its exam, and a model of Gemma 3 4B's shape.

    python benchmarks/export.py expert FOLDER [--limit N]      all file types and the exam of a built expert
    python benchmarks/export.py shape [--folder F] [--layers N] [--serve] [--keep]

`expert` copies the expert's dataset and train artefacts, exports them with files = ["all"] and lets every file sit the
exam (`--limit` questions of each part); printed are the decision table, wall clock and processor time. The artefacts of
the expert are not touched.

`shape` writes a random model of the shape of Gemma 3 4B's text part (34 layers, F16, 7.8 GB of disk) with a random
adapter of rank 16 on attention, and merges it into Q4_K_M in a process of its own, whose peak memory is printed beside
the largest tensor. `--serve` then loads the result in another process, for its memory, and compares tokens/s with bare
llama.cpp through benchmarks/answer_cpu.py. The tokenizer is that of the packaged gemma-3-270m; the text is nonsense.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from werkmeister.bases.find import find_base
from werkmeister.bases.gguf_file import encode, file_size, write_gguf
from werkmeister.bases.gguf_header import Tensor, read_gguf_header
from werkmeister.building.adapter import Delta
from werkmeister.building.export import ExportSettings, export
from werkmeister.building.merge import GgufWeights, Merged
from werkmeister.building.quantise import quantise
from werkmeister.console import live, show_table
from werkmeister.examining.decision import decision_table
from werkmeister.examining.exam import ExamSettings, exam
from werkmeister.examining.report import read_exam
from werkmeister.machine import in_words, need_disk, peak_memory, read_machine
from werkmeister.pipeline import read_expert
from werkmeister.progress import Silent

WIDTH, INNER, HEADS, KEYS, HEAD, VOCABULARY = 2560, 10240, 8, 4, 256, 262144
SHAPE = {
    **{"context_length": 131072, "embedding_length": WIDTH, "feed_forward_length": INNER},
    **{"attention.head_count": HEADS, "attention.head_count_kv": KEYS, "attention.key_length": HEAD},
    **{"attention.value_length": HEAD, "attention.layer_norm_rms_epsilon": 1e-6, "attention.sliding_window": 1024},
    **{"rope.freq_base": 1e6, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
}
MATRICES = {
    **{"attn_q": (HEADS * HEAD, WIDTH), "attn_k": (KEYS * HEAD, WIDTH), "attn_v": (KEYS * HEAD, WIDTH)},
    **{"attn_output": (WIDTH, HEADS * HEAD), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)},
    "ffn_down": (WIDTH, INNER),
}
VECTORS = {
    **dict.fromkeys(("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"), WIDTH),
    **dict.fromkeys(("attn_q_norm", "attn_k_norm"), HEAD),
}
RANK, CONTEXT = 16, 4096


def main() -> None:
    options = parse()
    if options.what == "expert":
        whole_export(options.folder, options.limit)
    elif options.what == "shape":
        shape(options)
    else:
        print(json.dumps(CHILDREN[options.what](options.folder)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="what", required=True)
    expert = verbs.add_parser("expert", help="all file types of a built expert, with the exam")
    expert.add_argument("folder", type=Path)
    expert.add_argument("--limit", type=int, default=40, help="questions of each part of the exam (default 40)")
    random = verbs.add_parser("shape", help="a random model of Gemma 3 4B's shape")
    random.add_argument("--folder", type=Path, help="where its files go; default: a temporary folder")
    random.add_argument("--layers", type=int, default=34, help="fewer layers for a quicker run (default 34)")
    random.add_argument("--serve", action="store_true", help="load the result, and measure memory and tokens/s")
    random.add_argument("--keep", action="store_true", help="leave the files where they are")
    for child in CHILDREN:
        verbs.add_parser(child).add_argument("folder", type=Path)
    return parser.parse_args()


def whole_export(folder: Path, limit: int) -> None:
    """Export and exam of a copy, with the time that each took."""
    chosen, home = read_expert(folder), folder / "artefacts"
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in ("dataset", "train"):
            shutil.copytree(home / name, copy / name)
        clock, processor = time.perf_counter(), os.times()
        settings = ExportSettings(files=("all",))
        export(copy / "dataset", copy / "train", copy / "export", settings, expert=folder, progress=live())
        exported, between = time.perf_counter(), os.times()
        asked = ExamSettings(mark=chosen.table("exam").mark, limit=limit, answerers=("files",), forgetting=False)
        stages = (copy / name for name in ("dataset", "train", "export", "exam"))
        made = exam(*stages, asked, expert=folder, progress=live())
        ended, after = time.perf_counter(), os.times()
        decision = read_exam(made)["decision"]
    show_table(*decision_table(decision))
    print(f"{decision['file']} answers: {decision['why']}.")
    print(f"export {exported - clock:.0f} s ({used(processor, between):.0f} s of processor time), ", end="")
    print(f"exam {ended - exported:.0f} s ({used(between, after):.0f} s), together {ended - clock:.0f} s")
    print(f"{read_machine().processor}, {read_machine().cores} cores; load {os.getloadavg()[0]:.1f} at the end")


def used(before: os.times_result, after: os.times_result) -> float:
    """Processor time between two readings, children that have ended included."""
    return sum(after[:4]) - sum(before[:4])


def shape(options: argparse.Namespace) -> None:
    """Write, merge and, where asked, serve the random model."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            measure_shape(folder, options.layers, options.serve)
        finally:
            if not options.keep:
                for name in ("base.gguf", "merged.gguf"):
                    (folder / name).unlink(missing_ok=True)


def measure_shape(folder: Path, layers: int, serve: bool) -> None:
    base = folder / "base.gguf"
    if not base.exists():
        write_random(base, layers)
    largest = max(read_gguf_header(base).tensors.values(), key=lambda tensor: tensor.size)
    print(f"{base.name}: {in_words(base.stat().st_size)}; largest tensor {largest.name}, {in_words(largest.size)}")
    merged = in_process("merge", folder)
    print(
        f"merged into Q4_K_M, {in_words(merged['size'])}: peak memory {in_words(merged['peak'])}, "
        f"{merged['peak'] / largest.size:.2f} of the largest tensor; {merged['seconds']:.0f} s, "
        f"{merged['processor']:.0f} s of processor time"
    )
    if serve:
        served = in_process("load", folder)
        print(
            f"served with a context of {CONTEXT} tokens: peak memory {in_words(served['peak'])}, "
            f"loaded in {served['seconds']:.1f} s, {served['threads']} threads"
        )
        beside = Path(__file__).with_name("answer_cpu.py")
        command = [sys.executable, str(beside), str(folder / "merged.gguf"), "--rounds", "1", "--tokens", "24"]
        subprocess.run(command, check=True)


def in_process(name: str, folder: Path) -> dict[str, float]:
    """Run one of `CHILDREN` in a process of its own, so that its peak memory is its own."""
    done = subprocess.run([sys.executable, __file__, name, str(folder)], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def merge_alone(folder: Path) -> dict[str, float]:
    """Merge a random adapter into the base and write Q4_K_M."""
    weights = GgufWeights(folder / "base.gguf")
    generator = np.random.default_rng(1)
    deltas = {}
    for tensor in weights.tensors:
        if any(f".{kind}.weight" in tensor.name for kind in ("attn_q", "attn_k", "attn_v", "attn_output")):
            a, b = (generator.normal(0, 0.02, size) for size in ((RANK, tensor.width), (tensor.rows, RANK)))
            deltas[tensor.name] = Delta(a.astype(np.float32), b.astype(np.float32), 2.0)
    begin, processor = time.perf_counter(), time.process_time()
    size = quantise(Merged(weights, deltas), folder / "merged.gguf", "Q4_K_M", progress=Silent())
    spent = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - processor}
    return {"size": size, "peak": peak_memory(), **spent}


def load_alone(folder: Path) -> dict[str, float]:
    """Load the merged file as an expert does, and answer once."""
    from werkmeister.chat import conversation
    from werkmeister.engines.engine import Sampling, reply
    from werkmeister.engines.llama import LlamaEngine

    with LlamaEngine(folder / "merged.gguf", context_length=CONTEXT) as engine:
        reply(engine, conversation("How does a door lock work?"), Sampling(max_tokens=16))
        return {"peak": peak_memory(), "seconds": engine.load_seconds, "threads": engine.threads}


CHILDREN = {"merge": merge_alone, "load": load_alone}


def write_random(path: Path, layers: int) -> None:
    """The random model, tensor by tensor from one block of random weights."""
    tensors = [Tensor(name="token_embd.weight", shape=(VOCABULARY, WIDTH), type="F16")]
    for layer in range(layers):
        for kinds, form in ((MATRICES, "F16"), (VECTORS, "F32")):
            for kind, size in kinds.items():
                shape = size if isinstance(size, tuple) else (size,)
                tensors.append(Tensor(name=f"blk.{layer}.{kind}.weight", shape=shape, type=form))
    tensors.append(Tensor(name="output_norm.weight", shape=(WIDTH,), type="F32"))
    metadata = shape_metadata(layers)
    need_disk(path.parent, 2 * file_size(metadata, tensors), "the random model and its merge")
    block = np.random.default_rng(0).normal(0, 0.02, 8 << 20).astype(np.float16)

    def chunks(tensor: Tensor) -> Iterator[bytes | memoryview]:
        if tensor.type == "F32":
            yield np.ones(tensor.values, dtype=np.float32).tobytes()
            return
        for start in range(0, tensor.values, block.size):
            yield block[: min(block.size, tensor.values - start)].tobytes()

    write_gguf(path, metadata, tensors, chunks)


def shape_metadata(layers: int) -> Mapping[str, bytes]:
    """Hyperparameters of the shape, and a tokenizer of the same vocabulary with a chat template."""
    packaged = find_base("gemma-3-270m", progress=live())
    assert packaged.gguf is not None
    raw = read_gguf_header(packaged.gguf).raw
    found = {key: value for key, value in raw.items() if key.startswith("tokenizer.")}
    found["tokenizer.chat_template"] = encode(packaged.template)
    own = {f"gemma3.{key}": encode(value) for key, value in (SHAPE | {"block_count": layers}).items()}
    return {"general.architecture": encode("gemma3"), "general.name": encode("random 4B shape"), **own, **found}


if __name__ == "__main__":
    main()
