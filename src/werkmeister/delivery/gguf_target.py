"""The gguf target: the model file with manifest, licence and golden prompts, for programs that run llama.cpp."""

from __future__ import annotations

from pathlib import Path

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
chat template are inside.

{score}.

    llama-server -m {model} -c {context} --jinja
    werkmeister verify .

Put this system message first, and ask at temperature 0:

{system}

`expected.jsonl` holds golden prompts with the answers that llama.cpp gave on the CPU when this file was exported;
`werkmeister verify` asks them again on your machine. `LICENSES.txt` says whose licence holds.
{documents}"""
_DOCUMENTS = """
This expert was trained to answer from passages of its documents, which this bundle does not carry: put the passages
before the question as `werkmeister serve` does, or take `--target browser`, which brings them along.
"""


def gguf_bundle(order: Order, output: Path) -> Bundle:
    """Write the model file of the built expert into the folder `output`, with all that proves it.

    Raises as `place_order` and `making_bundle` do.
    """
    with making_bundle(output, "gguf", order) as draft:
        model = add_model(draft, order)
        add_licences(draft, order)
        write_text(draft.folder / README, readme(order, _README))
    return made(output, "gguf", model, f"Check it: werkmeister verify {output}")


def readme(order: Order, text: str, **more: str) -> str:
    """Fill in what every bundle's README says."""
    system = order.found.system
    return text.format(
        name=order.found.name,
        model=order.found.path.name,
        context=order.context_length,
        score=score_words(order),
        system="\n".join(f"    {line}" for line in system.splitlines()) if system else "    (none)",
        documents=_DOCUMENTS if (order.expert / "artefacts" / "index").exists() else "",
        **more,
    )
