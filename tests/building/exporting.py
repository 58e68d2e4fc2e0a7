"""What the tests of export are made of: upstream artefacts around a tiny base and a random adapter."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.checkpoints import FAMILIES
from werkmeister.artefact import making, open_artefact
from werkmeister.bases.base import Base
from werkmeister.bases.find import find_base
from werkmeister.bases.load import load_model, lora_targets
from werkmeister.bases.tokens import full_ids, load_tokenizer
from werkmeister.chat import Example, Message, write_examples
from werkmeister.progress import Silent

# Umlauts, an emoji, digits, blank lines, runs of spaces: what tokenizers trip over.
PROMPTS = (
    ("Größe: 12,5 °C 😀", "What is the code of the red lamp?", "R1"),
    ("", "Schalte das Licht im Wohnzimmer ein, bitte! 12345\n\nZeile 2", '{"name": "turn_on"}'),
    ("", "  two  spaces and 🤖 robots; naïve Café", "Größe"),
    ("Answer.", "def f(x):\n    return x + 1\n\n\n", "Öl über 20"),
)


@dataclass(frozen=True)
class Upstream:
    """A base with a dataset and a train artefact on it."""

    root: Path
    base: Base

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def train(self) -> Path:
        return self.root / "train"

    @property
    def adapter(self) -> Path:
        return self.train / "adapter"


def examples() -> list[Example]:
    return [
        Example(prompt=(*([Message("system", head)] if head else []), Message("user", question)), target=target)
        for head, question, target in PROMPTS
    ]


def upstream(root: Path, family: str = "llama", **adapter: Any) -> Upstream:
    """A tiny checkpoint of `family`, and artefacts around a random adapter on it."""
    FAMILIES[family](root / "base")
    return upstream_on(root, find_base(str(root / "base"), progress=Silent()), **adapter)


def upstream_on(root: Path, base: Base, **adapter: Any) -> Upstream:
    said = {"name": base.name, "identity": base.identity, "context_length": base.context_length}
    facts = {"base": said, "system": ""}
    with making("dataset", root / "dataset", version=1, inputs={}, settings={}) as draft:
        for split in ("train", "exam"):
            write_examples(draft.path / f"{split}.jsonl", examples())
        draft.facts |= facts
    inputs = {"dataset": open_artefact(root / "dataset", "dataset").identity}
    with making("train", root / "train", version=1, inputs=inputs, settings={}) as draft:
        random_adapter(base, draft.path / "adapter", **adapter)
        draft.facts |= facts
    return Upstream(root, base)


def random_adapter(
    base: Base, folder: Path, *, scale: float = 0.03, targets: Sequence[str] = ("all-linear",), **options: Any
) -> None:
    """A PEFT folder with normally distributed B (zero in a fresh adapter)."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = load_model(base, dtype=torch.float32)
    config = LoraConfig(**({"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | options))
    config.target_modules = lora_targets(model, targets)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = get_peft_model(model, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=scale)
    model.save_pretrained(folder)


def learnt_adapter(base: Base, folder: Path, steps: int = 40) -> None:
    """A PEFT folder of an adapter that knows the longest answer of `examples()` by heart, and ends it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_model(base, dtype=torch.float32), load_tokenizer(base)
    head, tail = max((full_ids(tokenizer, example) for example in examples()), key=lambda pair: len(pair[1]))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=lora_targets(model, ["all-linear"]))
        model = get_peft_model(model, config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    ids, labels = torch.tensor([head + tail]), torch.tensor([[-100] * len(head) + tail])
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def trained_logprobs(base: Base, adapter: Path, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """What transformers says after each row of ids, with the adapter merged by PEFT: the independent reference."""
    import torch
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_model(base, dtype=torch.float32), adapter).merge_and_unload().eval()
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([list(row)])).logits[0, -1].log_softmax(-1).numpy() for row in rows]


def change_config(adapter: Path, **changes: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def copy_of(made: Upstream, root: Path) -> Upstream:
    """The same artefacts elsewhere, to be spoilt."""
    for name in ("dataset", "train"):
        shutil.copytree(made.root / name, root / name)
    return Upstream(root, made.base)
