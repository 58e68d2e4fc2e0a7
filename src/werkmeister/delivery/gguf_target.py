"""The gguf target: the model file with manifest, licence and golden prompts, for programs that run llama.cpp."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from werkmeister.bases.gguf_shards import LARGEST
from werkmeister.delivery.bundle import (
    README,
    Bundle,
    Order,
    add_licences,
    add_model,
    made,
    making_bundle,
    score_words,
    write_text,
)

_README = """# {name}

`{model}` is a language model for llama.cpp and what is built on it; its context is {context} tokens, its tokenizer and
chat template are inside. {shards}

{score}.

    llama-server -m {model} -c {context} --jinja
    werkmeister verify .

Put this system message first, and ask at temperature 0:

{system}

`expected.jsonl` holds golden prompts with the answers that llama.cpp gave on the CPU when this file was exported;
`werkmeister verify` asks them again on your machine. `LICENSES.txt` says whose licence holds.
{documents}"""
_SHARDS = "It is the first of {count} files: keep them together and their names as they are, and open the first."
_DOCUMENTS = """
This expert was trained to answer from passages of its documents, which this bundle does not carry: put the passages
before the question as `werkmeister serve` does, or take `--target browser`, which brings them along.
"""


def gguf_bundle(order: Order, output: Path, *, largest: int = LARGEST) -> Bundle:
    """Write the model file of the built expert into the folder `output`, with all that proves it.

    A file of more than `largest` bytes is split into shards, which llama.cpp opens by the first. Raises as
    `place_order` and `making_bundle` do.
    """
    with making_bundle(output, "gguf", order) as draft:
        models = add_model(draft, order, largest)
        add_licences(draft, order)
        write_text(draft.folder / README, readme(order, _README, models))
    return made(output, "gguf", models[0], f"Check it: werkmeister verify {output}", shards=len(models))


def readme(order: Order, text: str, models: Sequence[str] = (), **more: str) -> str:
    """Fill in what every bundle's README says; `models` are the files of a model that is carried as GGUF."""
    system = order.found.system
    return text.format(
        name=order.found.name,
        model=models[0] if models else order.found.path.name,
        shards=_SHARDS.format(count=len(models)) if len(models) > 1 else "",
        context=order.context_length,
        score=score_words(order),
        system="\n".join(f"    {line}" for line in system.splitlines()) if system else "    (none)",
        documents=_DOCUMENTS if (order.expert / "artefacts" / "index").exists() else "",
        **more,
    )
