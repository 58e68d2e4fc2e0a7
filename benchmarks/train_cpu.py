"""Training on a CPU, side by side in one run: Werkmeister against TRL's SFTTrainer on the same examples.

    python benchmarks/train_cpu.py [--steps 12] [--rounds 2] [--expert examples/voice-commands-demo]

Tokens without padding per second of optimizer steps (loading, evaluation and checkpoints left out; the first two
steps of each run warm up). Variants run in turn, round by round, so that a busy machine slows all of them alike.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

VARIANTS = ("TRL default", "TRL, bf16 base", "werkmeister")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--expert", type=Path, default=Path(__file__).parents[1] / "examples" / "voice-commands-demo")
    chosen = parser.parse_args()
    from werkmeister.bases.find import find_base
    from werkmeister.pipeline import read_expert, run_stage
    from werkmeister.progress import Silent

    settings = read_expert(chosen.expert)
    data = run_stage(settings, "dataset").artefact
    base = find_base(settings.table("expert").base, expert=chosen.expert, progress=Silent())
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(chosen.rounds):
        for variant in VARIANTS:
            with tempfile.TemporaryDirectory() as folder:
                if variant == "werkmeister":
                    rates[variant] += ours(data, settings.table("train"), Path(folder), chosen.steps)
                else:
                    rates[variant] += plain_trl(variant, base, data, settings.table("train"), folder, chosen.steps)
    plain = statistics.median(rates["TRL default"])
    print(f"{'':16} tokens/s   ratio to TRL default")
    for variant in VARIANTS:
        middle = statistics.median(rates[variant])
        print(f"{variant:16} {middle:8.0f}   {middle / plain:.2f}")
    print(json.dumps({"ratio": statistics.median(rates["werkmeister"]) / plain, "tokens_per_second": rates}))


def ours(data: Any, settings: Any, folder: Path, steps: int) -> list[float]:
    """Tokens/s of each step of the stage train."""
    from dataclasses import replace

    from werkmeister.building import train as stage

    examples = data.facts["splits"]["train"]["examples"]
    short = replace(settings, epochs=steps * settings.batch_size / examples, evaluations=1)
    made = stage.train(data.path, folder / "train", short)
    logged = [json.loads(line) for line in made.file("history.jsonl").read_text(encoding="utf-8").splitlines()]
    marks = [(entry["tokens"], entry["seconds"]) for entry in logged if "loss" in entry][1:]
    return [(b[0] - a[0]) / (b[1] - a[1]) for a, b in itertools.pairwise(marks)]


def plain_trl(variant: str, base: Any, data: Any, settings: Any, folder: str, steps: int) -> list[float]:
    """Tokens/s of each step of SFTTrainer as its documentation shows it, on prompt–completion conversations."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from werkmeister.bases.tokens import load_tokenizer
    from werkmeister.chat import Message, messages_json, read_examples

    rows = [
        {"prompt": messages_json(e.prompt), "completion": messages_json([Message("assistant", e.target)])}
        for e in read_examples(data.file("train.jsonl"))
    ]

    class Clock(TrainerCallback):
        begin, before, steps = 0.0, 0, []

        def on_step_begin(self, *args, **kwargs):
            Clock.begin = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            seen = trainer._total_train_tokens
            Clock.steps.append((seen - Clock.before) / (time.perf_counter() - Clock.begin))
            Clock.before = seen

    Clock.steps = []
    tuned = variant != "TRL default"
    more = {"per_device_train_batch_size": settings.batch_size, "gradient_checkpointing": False} if tuned else {}
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.bfloat16 if tuned else torch.float32),
        args=SFTConfig(
            output_dir=folder,
            max_steps=steps,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **more,
        ),
        train_dataset=Dataset.from_list(rows[: steps * 64]).shuffle(seed=0),
        processing_class=load_tokenizer(base),
        peft_config=LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules="all-linear" if "all-linear" in settings.targets else list(settings.targets),
            task_type="CAUSAL_LM",
        ),
        callbacks=[Clock()],
    )
    trainer.train()
    return Clock.steps[2:]


if __name__ == "__main__":
    main()
