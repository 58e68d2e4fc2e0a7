"""The huggingface target: a merged checkpoint in safetensors and the PEFT adapter, with a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from werkmeister.artefact import open_artefact
from werkmeister.bases.find import find_same_base
from werkmeister.chat import read_examples
from werkmeister.delivery.adapter_target import CONFIG, PEFT, base_facts, write_peft
from werkmeister.delivery.bundle import (
    LICENCES,
    README,
    Bundle,
    Draft,
    Order,
    base_licence,
    base_name,
    digest,
    made,
    making_bundle,
    serving,
    trained_for,
    write_text,
)
from werkmeister.delivery.gguf_target import readme
from werkmeister.engines.golden import EXPECTED, Golden, record_golden, write_golden
from werkmeister.errors import DataError

if TYPE_CHECKING:
    from werkmeister.bases.base import Base

_CARD = """---
{front}
---
# {name}

Made with Werkmeister from {base}: the adapter in `adapter/` was trained (LoRA, rank {rank}) and merged into the weights
in this folder, which are stored in the types of the base.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")
messages = {messages}
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens={tokens}, do_sample=False)
print(tokenizer.decode(answer[0][prompt["input_ids"].shape[1]:], skip_special_tokens=True))
```

The adapter alone: `PeftModel.from_pretrained(base, "adapter")` on {base}.

With vLLM (written down, not tried by us): `vllm serve .` for the merged weights, or
`vllm serve BASE --enable-lora --lora-modules {label}=adapter --max-lora-rank {lora_rank}`.

## Intended use and limits

It answers what its examples ask, under the system message in `messages` above, at temperature 0. `expected.jsonl`
holds what transformers answers with these weights in float32 on a CPU; `werkmeister verify .` asks again.

{score}. The weights in this folder did not sit it themselves.
{documents}"""
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def huggingface_bundle(order: Order, output: Path) -> Bundle:
    """Write base + adapter as one checkpoint, and the adapter alone, into the folder `output`.

    The merged checkpoint is loaded by transformers and answers the golden prompts before the bundle counts as made.
    Raises DataError when a file was asked for, which names a quantisation; BaseModelError when the base is no
    longer the one of then.
    """
    if order.file:
        raise DataError(
            f"--file {order.file} names a GGUF, and this target has the base's own types", hint="leave --file out"
        )
    with making_bundle(output, "huggingface", order) as draft:
        base = write_merged(order, draft.folder)
        write_peft(order, draft.folder / PEFT)
        write_golden(draft.folder / EXPECTED, transformers_answers(order, draft.folder, base))
        _describe(draft, order, base)
    usage = (
        f"Load it:  AutoModelForCausalLM.from_pretrained({str(output)!r})",
        f"Check it: werkmeister verify {output}",
    )
    return made(output, "huggingface", "the merged checkpoint", *usage)


def write_merged(order: Order, folder: Path) -> Base:
    """Write base + adapter as a checkpoint into `folder`; returns the base."""
    from werkmeister.building.checkpoint import write_checkpoint

    trained = trained_for(order)
    base = find_same_base(order.built.facts["base"], expert=order.expert, progress=order.progress)
    write_checkpoint(base, trained.path / "adapter", folder, order.progress)
    return base


def transformers_answers(order: Order, checkpoint: Path, base: Base) -> Sequence[Golden]:
    """Golden prompts with what transformers answers with a merged checkpoint, in float32 on the CPU."""
    from werkmeister.engines.transformers import open_transformers

    data = open_artefact(order.expert / "artefacts" / "dataset", "dataset", make_with="werkmeister dataset")
    merged = replace(base, folder=checkpoint, gguf=None)
    with (
        order.progress.track("asking the merged checkpoint", None),
        open_transformers(merged, exact=True) as engine,
    ):
        return record_golden(engine, list(read_examples(data.file("exam.jsonl"))), stop=base.stop)


def _describe(draft: Draft, order: Order, base: Base) -> None:
    rank = int(json.loads((draft.folder / PEFT / CONFIG).read_text(encoding="utf-8"))["r"])
    draft.facts["serving"] = serving(order, ".", engine="transformers", context=base.context_length) | {
        "template": digest(base.template)
    }
    draft.facts["base"] = base_facts(order)
    write_text(draft.folder / LICENCES, f"The model\n    {base_licence(order)}")
    system = order.found.system
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": "…"}]
    front = [
        "library_name: transformers",
        "pipeline_tag: text-generation",
        f"base_model: {json.dumps(base_name(order))}",
    ]
    if base.licence:
        front.append(f"license: {_card_licence(base.licence)}")
    text = readme(
        order,
        _CARD,
        front="\n".join(front),
        base=base_name(order),
        rank=str(rank),
        lora_rank=str(next((known for known in _LORA_RANKS if known >= rank), rank)),
        messages=json.dumps(messages, ensure_ascii=False),
        tokens=str(order.found.sampling.max_tokens),
        label="expert",
    )
    write_text(draft.folder / README, text)


def _card_licence(licence: str) -> str:
    """As model cards name it: an SPDX id in small letters, `gemma`, or `other`."""
    small = licence.lower()
    return "gemma" if "gemma" in small else small if " " not in small else "other"
