"""The phone target: the model for LiteRT-LM, which runs on Android and iOS, and as GGUF for llama.cpp there.

What is verified is verified on Linux: LiteRT-LM's own runtime loads the file there, and its greedy answers are compared
with those of transformers on the merged checkpoint.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from werkmeister.artefact import write_json
from werkmeister.bases.gguf_shards import LARGEST
from werkmeister.delivery.bundle import (
    README,
    Bundle,
    Draft,
    Order,
    add_licences,
    add_model,
    made,
    making_bundle,
    write_text,
)
from werkmeister.delivery.gguf_target import readme
from werkmeister.delivery.huggingface_target import transformers_answers, write_merged
from werkmeister.delivery.litert import call_litert, litert_python
from werkmeister.delivery.ollama_target import special_tokens_without_begin
from werkmeister.delivery.ollama_template import read_pieces
from werkmeister.engines.golden import Golden, write_golden
from werkmeister.errors import ParityError
from werkmeister.machine import in_words

MODEL = "model.litertlm"
EXPECTED = "expected.litertlm.jsonl"
REPORT = "litert.json"
CONTEXT = 2048
"""The context (tokens) that is set up without being asked for: it is fixed in the file, phones have little memory."""
_LEAST = 0.5
_README = """# {name} for phones

| file | for |
|---|---|
| `model.litertlm` ({size}) | LiteRT-LM, for Android and iOS; weights of 8 bits, {litert_context} tokens of context |
| `{model}` | llama.cpp on a phone. {shards} |
| `LiteRtChat.kt`, `LiteRtChat.swift` | starting points with LiteRT-LM |
| `LlamaCppChat.kt`, `LlamaCppChat.swift` | starting points with llama.cpp |
| `expected.litertlm.jsonl`, `litert.json` | golden prompts with the answers of transformers; what LiteRT-LM answered |
| `expected.jsonl` | golden prompts with the answers of llama.cpp on `{model}` |

**What was verified, on {system_name} only:** LiteRT-LM loaded `model.litertlm` and gave {equal} of {asked} greedy
answers exactly as transformers does in float32; prompt {prompt_speed} and answer {answer_speed} tokens/s on the CPU of
the machine that exported it. **Not verified:** any phone, the graphics processor of one, and the code in Kotlin and
Swift, which was not compiled. `werkmeister verify .` asks again.

{score}. `model.litertlm` did not sit it.

System message:

{system}

For a tablet, `--target browser` makes an app that needs no app store.
{documents}"""


def phone_bundle(order: Order, output: Path, python: Path | None = None, *, largest: int = LARGEST) -> Bundle:
    """Write the built expert for phones into the folder `output`.

    `python` is that of an environment with litert-torch and litert-lm; without one, an environment is made in the
    cache. A GGUF of more than `largest` bytes is split; `model.litertlm` stays one file. Raises ParityError when
    LiteRT-LM gives less than half of the golden answers: what else it answers then was not learnt. MachineError when
    the environment cannot be made, EngineError when the conversion fails.
    """
    interpreter = litert_python(python, order.progress)
    with making_bundle(output, "phone", order) as draft:
        models = add_model(draft, order, largest)
        report, answers = _convert(draft, order, interpreter)
        equal = sum(answers["equal"])
        if equal < _LEAST * len(answers["equal"]):
            raise ParityError(
                f"LiteRT-LM gives {equal} of {len(answers['equal'])} golden answers as the trained model does",
                hint="use --target gguf with llama.cpp on the phone, and report this",
            )
        write_json(draft.folder / REPORT, {"conversion": report, "asking": answers})
        draft.facts["litert"] = {"file": MODEL, "expected": EXPECTED, "context_length": report["context_length"]}
        add_licences(draft, order, "", "The starting points in Kotlin and Swift", "    Apache License 2.0")
        _write_starts(draft, order)
        told = {
            "size": in_words((draft.folder / MODEL).stat().st_size),
            "litert_context": str(report["context_length"]),
            "system_name": platform.system(),
            "equal": str(equal),
            "asked": str(len(answers["equal"])),
            "prompt_speed": _speed(answers["prompt_tokens_per_second"]),
            "answer_speed": _speed(answers["answer_tokens_per_second"]),
        }
        write_text(draft.folder / README, readme(order, _README, models, **told))
    usage = (
        f"LiteRT-LM answers {equal} of {len(answers['equal'])} golden prompts as the trained model does; "
        "that is on this machine, no phone was tried",
        f"Check it: werkmeister verify {output}",
    )
    return made(output, "phone", f"{MODEL} and {models[0]}", *usage, shards=len(models))


def ask_litert(python: Path, model: Path, golden: Sequence[Golden]) -> dict[str, Any]:
    """Ask LiteRT-LM golden prompts: its answers, which of them are equal, and its speeds."""
    with tempfile.TemporaryDirectory() as scratch:
        prompts = Path(scratch) / "prompts.jsonl"
        write_golden(prompts, golden)
        found = call_litert(python, "ask", str(model), str(prompts))
    same = [entry.answer == answer for entry, answer in zip(golden, found["answers"], strict=True)]
    return found | {"equal": same}


def _convert(draft: Draft, order: Order, python: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    context = order.settings.context_length or min(order.context_length, CONTEXT)
    # Beside the bundle, and not in the system's own place for such things, which may be in memory.
    with tempfile.TemporaryDirectory(dir=draft.folder.parent, prefix="phone-") as scratch:
        merged, converted = Path(scratch) / "merged", Path(scratch) / "converted"
        base = write_merged(order, merged)
        golden = transformers_answers(order, merged, base)
        converted.mkdir()
        order.progress.say("converting for LiteRT: minutes, and more than 4 GB of memory for 135 M weights")
        with order.progress.track("converting for LiteRT", None):
            report = call_litert(python, "make", str(merged), str(converted), str(context))
        shutil.move(converted / MODEL, draft.folder / MODEL)
    write_golden(draft.folder / EXPECTED, golden)
    with order.progress.track("asking LiteRT-LM", None):
        return report, ask_litert(python, draft.folder / MODEL, golden)


def _write_starts(draft: Draft, order: Order) -> None:
    """The starting points, with the system message and what stands around a question filled in."""
    system = order.found.system
    before, after = _around(order)
    filled = {
        "@SYSTEM@": json.dumps(system, ensure_ascii=False),
        "@TOKENS@": str(order.found.sampling.max_tokens),
        "@BEFORE@": json.dumps(before, ensure_ascii=False),
        "@AFTER@": json.dumps(after, ensure_ascii=False),
    }
    for source in sorted((resources.files("werkmeister.delivery") / "phone").iterdir(), key=lambda found: found.name):
        text = source.read_text(encoding="utf-8")
        # In Kotlin a dollar sign would begin a template.
        for mark, value in filled.items():
            text = text.replace(mark, value.replace("$", "\\$") if source.name.endswith(".kt") else value)
        write_text(draft.folder / source.name, text)


def _around(order: Order) -> tuple[str, str]:
    """What the template writes before and after one question, the system message included."""
    pieces = read_pieces(order.template, special_tokens_without_begin(order.found.path))
    system = order.found.system
    turns = [("system", system)] if system else []
    before, _, after = pieces.joined([*turns, ("user", "\0")]).partition("\0")
    return before, after


def _speed(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}"
