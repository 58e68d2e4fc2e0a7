"""The ollama target: the model file with a Modelfile for Ollama, and a preset for LM Studio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from werkmeister.bases.gguf_header import read_gguf_header
from werkmeister.delivery.bundle import (
    README,
    Bundle,
    Order,
    add_licences,
    add_model,
    base_licence,
    made,
    making_bundle,
    write_text,
)
from werkmeister.delivery.gguf_target import readme
from werkmeister.delivery.ollama_template import go_template, read_pieces
from werkmeister.errors import DataError

MODELFILE = "Modelfile"
PRESET = "lm-studio.preset.json"
USUAL_CONTEXT = 8192
"""The longest context (tokens) that is set up without being asked for: Ollama takes the memory for it at once."""
_QUOTES = '"""'
_README = """# {name} for Ollama and LM Studio

    ollama create {label} -f Modelfile
    ollama run {label}

{score}.

The Modelfile sets the template, the system message, the texts that end an answer, greedy sampling, and the context:
{num_ctx} tokens (Ollama's own default is shorter, and it cuts what does not fit without a word).

In LM Studio, load `{model}`; it reads the template in the file. `lm-studio.preset.json` has the rest: import it under
"Presets", and choose it for the model. Programs that ask through an API send their own sampling settings: take
temperature 0.

`werkmeister verify .` checks the files and asks `expected.jsonl` again with llama.cpp, which both are built on. Not
tried by us: the programs themselves. White space around a question stays as it is typed.
{documents}"""


def ollama_bundle(order: Order, output: Path) -> Bundle:
    """Write the model file of the built expert with a Modelfile and an LM Studio preset into the folder `output`.

    Raises ParityError when the chat template has no counterpart in Ollama's language, DataError when the system
    message has three quotation marks in a row, which a Modelfile cannot hold.
    """
    context = order.settings.context_length or min(order.context_length, USUAL_CONTEXT)
    label = "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in order.found.name.lower())
    text = modelfile(order, context)
    with making_bundle(output, "ollama", order) as draft:
        # One file: which versions of Ollama take shards, and how they are named to it, differs (docs/export.md).
        models = add_model(draft, order)
        draft.facts["serving"] |= {"context_length": context}
        write_text(draft.folder / MODELFILE, text)
        write_text(draft.folder / PRESET, json.dumps(preset(order, context), ensure_ascii=False, indent=2))
        add_licences(draft, order)
        told = readme(order, _README, models, label=label, num_ctx=str(context))
        write_text(draft.folder / README, told)
    usage = f"Use it:   cd {output} && ollama create {label} -f Modelfile && ollama run {label}"
    return made(output, "ollama", models[0], usage, f"Check it: werkmeister verify {output}")


def modelfile(order: Order, context: int) -> str:
    """The Modelfile: whatever decides an answer is said in it, since Ollama's defaults are others."""
    template = go_template(read_pieces(order.template, special_tokens_without_begin(order.found.path)))
    sampling = order.found.sampling
    greedy = sampling.temperature == 0
    lines = [
        f"FROM ./{order.found.path.name}",
        f"TEMPLATE {_quoted(template, 'the chat template')}",
        *([f"SYSTEM {_quoted(order.found.system, 'the system message')}"] if order.found.system else []),
        f"PARAMETER num_ctx {context}",
        f"PARAMETER num_predict {sampling.max_tokens}",
        f"PARAMETER temperature {sampling.temperature:g}",
        # Zero takes a filter out; Ollama's own values would filter and punish repetition unasked.
        f"PARAMETER top_k {1 if greedy else 0}",
        "PARAMETER top_p 1.0",
        "PARAMETER min_p 0.0",
        "PARAMETER repeat_penalty 1.0",
        *(f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}" for text in sampling.stop),
        f"LICENSE {_quoted(base_licence(order), 'the licence')}",
    ]
    return "\n".join(lines)


def preset(order: Order, context: int) -> dict[str, Any]:
    """The same for LM Studio (configuration presets of version 0.3)."""
    sampling = order.found.sampling
    off = {"checked": False, "value": 1.0}
    fields = {
        "systemPrompt": order.found.system,
        "temperature": sampling.temperature,
        "topKSampling": 1 if sampling.temperature == 0 else 0,
        "topPSampling": off,
        "minPSampling": {"checked": False, "value": 0.0},
        "repeatPenalty": off,
        "maxPredictedTokens": {"checked": True, "value": sampling.max_tokens},
        "stopStrings": list(sampling.stop),
        "contextOverflowPolicy": "stopAtLimit",
    }
    return {
        "identifier": f"@local:{order.found.name}",
        "name": order.found.name,
        "changed": False,
        "operation": {"fields": [{"key": f"llm.prediction.{key}", "value": value} for key, value in fields.items()]},
        "load": {"fields": [{"key": "llm.load.contextLength", "value": context}]},
    }


def special_tokens_without_begin(model: Path) -> dict[str, str]:
    """The texts of a file's begin and end tokens, as its template names them; the begin token is empty where llama.cpp
    puts it in front of a prompt itself."""
    metadata = read_gguf_header(model).metadata
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    ids = {name: metadata.get(f"tokenizer.ggml.{name}_token_id", -1) for name in ("bos", "eos")}
    found = {f"{name}_token": tokens[number] for name, number in ids.items() if 0 <= number < len(tokens)}
    added = metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.model") == "llama")
    return found | ({"bos_token": ""} if added else {})


def _quoted(text: str, what: str) -> str:
    if _QUOTES in text or text.endswith('"'):
        raise DataError(
            f"{what} holds quotation marks that a Modelfile cannot ({text[-20:]!r})",
            hint="take them out of [expert] system in expert.toml, or use --target gguf",
        )
    return f"{_QUOTES}{text}{_QUOTES}"
