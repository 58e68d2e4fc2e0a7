"""Training on a GPU, side by side in one run: Werkmeister, TRL and Unsloth on the same examples and the same base.

    python benchmarks/train_gpu.py [--shape 4b] [--rows ours-cold ours trl-padded trl-packed unsloth] [--steps 14]

The base is Gemma 3 of the named shape with random weights, in NF4 with double quantisation; LoRA r = 16 on q, k, v, o;
examples have log-normal lengths around 220 tokens, 1,024 at most, nearly all of them learnt. A step is 8 examples
(TRL padded), 8 rows of 1,024 tokens (packed), or as many examples as those rows hold (Werkmeister). Each row of the
table is a process of its own. `tokens/s` counts tokens without padding in the steps behind the warm-up; `adapter` is
the time from the start of the process to the adapter's file, whatever it compiled included.
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BEGIN = time.perf_counter()
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
SHAPES: dict[str, dict[str, Any]] = {
    "0.27b": {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4}
    | {"num_key_value_heads": 1, "sliding_window": 512, "vocab_size": 262144},
    "1b": {"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4}
    | {"num_key_value_heads": 1, "sliding_window": 512, "vocab_size": 262144},
    "4b": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8}
    | {"num_key_value_heads": 4, "sliding_window": 1024, "vocab_size": 262208},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2}
    | {"num_key_value_heads": 1, "sliding_window": 64, "vocab_size": 2048},
}
ROW = 1024
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="4b", choices=SHAPES)
    parser.add_argument("--rows", nargs="+", default=["ours-cold", "ours", "trl-padded", "trl-packed", "unsloth"])
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--examples", type=int, default=0, help="instead of steps: one epoch over so many")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "werkmeister-train-gpu")
    parser.add_argument("--limit", type=int, default=400, help="seconds that a row may take")
    parser.add_argument("--unsloth-path", default="", help="folder with Unsloth and the versions that it pins")
    parser.add_argument(
        "--set", nargs="*", default=[], help="settings of the row ours, as werkmeister --set takes them"
    )
    parser.add_argument("--row", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.row:
        result = {"base": make_base, "ours": ours, "trl-padded": trl, "trl-packed": trl, "unsloth": trl}[
            chosen.row.removesuffix("-cold")
        ](chosen)
        print("RESULT " + json.dumps(result))
        return
    if not (chosen.folder / chosen.shape / "base").is_dir():
        run_row(chosen, "base")
    found = {row: run_row(chosen, row) for row in chosen.rows}
    rate = matmul_rate()
    print(f"\n{chosen.shape}: matrix products of 8,192 in bf16 reach {rate / 1e12:.0f} TFLOP/s on this card")
    print(f"{'':12} tokens/s  share  peak GB  reserved  loaded   loss  at tokens  warm-up s  total s")
    for row, one in found.items():
        if "error" in one:
            print(f"{row:12} failed: {one['error']}")
            continue
        share = one["tokens_per_second"] * flops_a_token(chosen.shape) / rate
        print(
            f"{row:12} {one['tokens_per_second']:8.0f} {share:6.1%} {one['peak']:8.2f} {one['reserved']:9.2f} "
            f"{one['loaded']:7.2f} {one['loss']:6.3f} {one['loss_at']:10,} {one['warm']:10.1f} {one['total']:8.1f}"
        )
    print(json.dumps(found))


def run_row(chosen: Any, row: str) -> dict[str, Any]:
    """What a process of its own measured, or why it did not end."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
    if row == "unsloth":
        environment["PYTHONPATH"] = chosen.unsloth_path + os.pathsep + environment.get("PYTHONPATH", "")
    if row == "ours-cold":
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(chosen.folder / f"cold-{time.time():.0f}")
    told = sys.argv[1:]
    try:
        run = subprocess.run(
            [sys.executable, __file__, *told, "--row", row],
            **{"capture_output": True, "text": True, "timeout": chosen.limit, "env": environment},
        )
    except subprocess.TimeoutExpired as expired:
        return {"error": f"not done in {chosen.limit} s", "log": str(expired.stderr)[-800:]}
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        print(run.stdout[-1500:], run.stderr[-2500:])
        return {"error": run.stderr.strip().splitlines()[-1][:300] if run.stderr.strip() else "no output"}
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    print(f"{row}: {json.dumps(result)}", flush=True)
    return result


def flops_a_token(shape: str) -> float:
    """Six operations a weight and token: forward, forward again, and the gradient of the activations."""
    s = SHAPES[shape]
    heads = 256 * (2 * s["num_attention_heads"] + 2 * s["num_key_value_heads"])
    layer = s["hidden_size"] * (heads + 3 * s["intermediate_size"])
    return 6.0 * (s["num_hidden_layers"] * layer + s["vocab_size"] * s["hidden_size"])


def matmul_rate() -> float:
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - begin)


def make_base(chosen: Any) -> dict[str, Any]:
    """A folder with an expert: the base with random weights, and examples whose text is random words."""
    import torch
    from safetensors.torch import save_file
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    from tests.checkpoints import write_gemma3_text

    folder = chosen.folder / chosen.shape
    base = folder / "base"
    base.mkdir(parents=True)
    write_gemma3_text(base)
    own = json.loads((base / "config.json").read_text())
    sizes = SHAPES[chosen.shape] | {"head_dim": 256, "query_pre_attn_scalar": 256, "max_position_embeddings": 8192}
    sizes["layer_types"] = [
        "sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(sizes["num_hidden_layers"])
    ]
    (base / "config.json").write_text(json.dumps(own | sizes))
    with torch.device("meta"):
        empty = Gemma3ForCausalLM(Gemma3TextConfig.from_pretrained(base))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    tensors = {
        name: torch.zeros(value.shape, dtype=torch.bfloat16)
        if "norm" in name
        else (torch.randn(value.shape, device=device) * 0.02).to(torch.bfloat16).cpu()
        for name, value in empty.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    write_examples(folder)
    return {"seconds": time.perf_counter() - BEGIN}


def write_examples(folder: Path) -> None:
    from tokenizers import Tokenizer

    counted = Tokenizer.from_file(str(folder / "base" / "tokenizer.json"))
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghiklmnoprstuw", k=rng.randint(2, 7))) for _ in range(3000)]
    sizes = {word: len(counted.encode(" " + word, add_special_tokens=False).ids) for word in words}
    with (folder / "all.jsonl").open("w") as file:
        for number in range(12000):
            left = min(1000, max(8, round(math.exp(rng.gauss(math.log(220) - 0.18, 0.6)))))
            text = []
            while left > 0:
                text.append(rng.choice(words))
                left -= sizes[text[-1]]
            file.write(json.dumps({"prompt": f"{number}", "completion": " ".join(text)}) + "\n")


def expert(chosen: Any, count: int) -> Any:
    """An expert of `count` examples for training, read as a person's is, its dataset made."""
    from werkmeister.pipeline import read_expert, run_stage

    folder = chosen.folder / chosen.shape / f"expert-{count}-{time.time():.0f}"
    folder.mkdir()
    valid = 64
    lines = (chosen.folder / chosen.shape / "all.jsonl").read_text().splitlines()[: count + 2 * valid]
    splits = ["train"] * count + ["valid"] * valid + ["exam"] * valid
    records = [json.loads(line) | {"split": split} for line, split in zip(lines, splits, strict=True)]
    (folder / "examples.jsonl").write_text("\n".join(json.dumps(record) for record in records) + "\n")
    per_step = round(8 * ROW / 222)
    (folder / "expert.toml").write_text(
        f'[expert]\nbase = "{chosen.folder / chosen.shape / "base"}"\n\n[dataset]\nnear_duplicate = 0.0\n\n[train]\n'
        f"rank = 16\nalpha = 32.0\nlearning_rate = 2e-4\nepochs = 1.0\nbatch_size = {per_step}\nevaluations = 1\n"
        'select = "loss"\nprecision = "nf4"\n'
    )
    settings = read_expert(folder, chosen.set)
    return settings, run_stage(settings, "dataset").artefact


def ours(chosen: Any) -> dict[str, Any]:
    """The stage train as a person runs it, its dataset made before."""
    import torch

    from werkmeister.pipeline import run_stage

    count = chosen.examples or chosen.steps * round(8 * ROW / 222)
    settings, _ = expert(chosen, count)
    prepared = time.perf_counter()
    made = run_stage(settings, "train").artefact
    total = time.perf_counter() - prepared
    lines = [json.loads(line) for line in made.file("history.jsonl").read_text().splitlines()]
    marks = [(0, 0.0)] + [(line["tokens"], line["seconds"]) for line in lines if "loss" in line]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)]
    losses = [(line["tokens"], line["loss"]) for line in lines if "loss" in line]
    valid = [line["eval_loss"] for line in lines if "eval_loss" in line]
    return summary(steps, losses, total) | {
        "measures": {
            key: made.measures.get(key)
            for key in ("seconds", "memory_plan", "gpu_peak", "graphs_failed", "peak_memory")
        },
        "valid": valid[-1] if valid else None,
        "peak": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0,
        "reserved": torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else 0.0,
        "loaded": (made.measures.get("gpu_loaded") or 0) / 1e9,
    }


def summary(steps: list[tuple[int, float]], losses: list[tuple[int, float]], total: float) -> dict[str, Any]:
    """`steps` are tokens and seconds of each; the first third warms up."""
    steady = steps[max(2, len(steps) // 3) :] or steps
    rate = sum(tokens for tokens, _ in steady) / sum(seconds for _, seconds in steady)
    middle = statistics.median(seconds for _, seconds in steady)
    tail = losses[-3:]
    return {
        "tokens_per_second": rate,
        "median_step": middle,
        "warm": sum(seconds for _, seconds in steps) - sum(tokens for tokens, _ in steps) / rate,
        "total": total,
        "losses": [(tokens, round(loss, 4)) for tokens, loss in losses[:: max(1, len(losses) // 12)]],
        "loss": sum(loss for _, loss in tail) / len(tail),
        "loss_at": losses[-1][0],
        "steps": [(tokens, round(seconds, 3)) for tokens, seconds in steps[:24]],
    }


def trl(chosen: Any) -> dict[str, Any]:
    """TRL's or Unsloth's SFTTrainer as their documentation shows them, on the same token ids and labels."""
    row, begin, more = chosen.row, time.perf_counter(), dict[str, Any]()
    if row == "unsloth":
        from unsloth import FastLanguageModel
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTTrainer

    folder = chosen.folder / chosen.shape
    count = chosen.examples or chosen.steps * round(8 * ROW / 222)
    if row == "trl-padded":
        count = min(count, 8 * chosen.steps)
    model, tokenizer = load(row, folder / "base")
    loaded, loading = torch.cuda.memory_allocated() / 1e9, time.perf_counter() - begin
    if row == "unsloth":
        model = FastLanguageModel.get_peft_model(
            model,
            **{"r": 16, "target_modules": list(TARGETS), "lora_alpha": 32, "lora_dropout": 0, "bias": "none"},
            use_gradient_checkpointing="unsloth",
            random_state=0,
        )
    else:
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(r=16, lora_alpha=32, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    rows = tokenised(tokenizer, folder / "all.jsonl", count)
    clock, losses = [], []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            torch.cuda.synchronize()
            clock.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):
                losses.append(logs["loss"])

    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=arguments(row, folder),
        callbacks=[Clock()],
        **more,
    )
    clock.append(time.perf_counter())
    trainer.train()
    trainer.save_model(str(folder / f"adapter-{row}"))
    total = time.perf_counter() - begin
    each = sum(len(one["input_ids"]) for one in rows) / (len(clock) - 1)
    steps = [(round(each), b - a) for a, b in itertools.pairwise(clock)]
    marks = [(round(each * (i + 1)), loss) for i, loss in enumerate(losses)]
    return summary(steps, marks, total) | {
        "loading": loading,
        "peak": torch.cuda.max_memory_allocated() / 1e9,
        "reserved": torch.cuda.max_memory_reserved() / 1e9,
        "loaded": loaded,
    }


def load(row: str, base: Path) -> tuple[Any, Any]:
    """Model and tokenizer as the documentation of TRL or Unsloth loads them in 4 bits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    if row == "unsloth":
        from unsloth import FastLanguageModel

        model, tokenizer = FastLanguageModel.from_pretrained(
            str(base), max_seq_length=ROW, load_in_4bit=True, dtype=torch.bfloat16, local_files_only=True
        )
    else:
        tokenizer = AutoTokenizer.from_pretrained(base)
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.bfloat16, quantization_config=quantised, device_map={"": "cuda"}
        )
    return model, tokenizer


def arguments(row: str, folder: Path) -> Any:
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder / f"out-{row}"),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        num_train_epochs=1,
        packing=row != "trl-padded",
        max_length=ROW,
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        warmup_steps=1,
        optim="paged_adamw_8bit",
        bf16=True,
        gradient_checkpointing=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        seed=0,
        disable_tqdm=True,
    )


def tokenised(tokenizer: Any, file: Path, count: int) -> list[dict[str, Any]]:
    """The rows that our own trainer sees: prompt and answer in the template, the prompt masked."""
    rows = []
    for line in file.read_text().splitlines()[:count]:
        record = json.loads(line)
        turns = [{"role": "user", "content": record["prompt"]}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        whole = tokenizer(prompt + record["completion"] + "<end_of_turn>\n", add_special_tokens=False)["input_ids"]
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        rows.append({"input_ids": whole, "labels": [-100] * start + whole[start:]})
    return rows


if __name__ == "__main__":
    main()
