"""Run by the Python of LiteRT's own environment, never imported by Werkmeister: makes a .litertlm file, and asks one.

    python litert_script.py make  MODEL_FOLDER OUTPUT_FOLDER CONTEXT
    python litert_script.py ask   FILE.litertlm PROMPTS.jsonl

Standard library only outside the functions. The last line of standard output is one JSON object; the libraries write
their own lines before it.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import time
import types
from importlib import metadata
from pathlib import Path
from typing import Any

# The runtime hands a message's content over as a list of parts; the templates of most models expect a text.
FLATTEN = """{%- set flat = namespace(turns=[]) -%}
{%- for message in messages -%}
{%- if message.content is string -%}
{%- set flat.turns = flat.turns + [message] -%}
{%- else -%}
{%- set said = namespace(text='') -%}
{%- for part in message.content -%}{%- set said.text = said.text + (part.text or '') -%}{%- endfor -%}
{%- set flat.turns = flat.turns + [{'role': message.role, 'content': said.text}] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.turns -%}
"""
_PREFILLS = (32, 256)
_PACKAGES = ("litert-torch", "litert-lm", "torch", "transformers")
_RECIPE = "dynamic_wi8_afp32"


def make(model: Path, output: Path, context: int) -> dict[str, Any]:
    """Convert a checkpoint: weights of 8 bits, activations in float32, room for `context` tokens."""
    _stand_in_for_tensorflow()
    from litert_torch.generative.export_hf.export import export

    template = output / "chat_template.jinja"
    template.write_text(FLATTEN + (model / template.name).read_text(encoding="utf-8"), encoding="utf-8")
    begin = time.perf_counter()
    export(
        model=str(model),
        output_dir=str(output),
        prefill_lengths=[length for length in _PREFILLS if length < context],
        cache_length=context,
        quantization_recipe=_RECIPE,
        bundle_litert_lm=True,
        use_jinja_template=True,
        jinja_chat_template_override=str(template),
    )
    template.unlink()
    return {
        "seconds": time.perf_counter() - begin,
        "peak_bytes": _peak(),
        "recipe": _RECIPE,
        "context_length": context,
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def ask(file: Path, prompts: Path) -> dict[str, Any]:
    """Greedy answers to the prompts, through the template in the file, as an app on a phone asks it."""
    from litert_lm import Engine
    from litert_lm.interfaces import CPU, SamplerConfig

    begin = time.perf_counter()
    engine = Engine(str(file), backend=CPU(), enable_benchmark=True, cache_dir=":nocache")
    answers, speeds, load = [], [], time.perf_counter() - begin
    for line in prompts.read_text(encoding="utf-8").split("\n"):
        if not line.strip():
            continue
        golden = json.loads(line)
        *before, question = golden["messages"]
        conversation = engine.create_conversation(
            messages=before,
            sampler_config=SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=0),
            max_output_tokens=golden["max_tokens"],
        )
        said = conversation.send_message(question)
        answers.append("".join(part.get("text", "") for part in said.get("content", [])))
        speeds.append(_speed(conversation))
        conversation.close()
    engine.close()
    known = [speed for speed in speeds if speed]
    return {
        "answers": answers,
        "load_seconds": load,
        "peak_bytes": _peak(),
        "prompt_tokens_per_second": max((speed[0] for speed in known), default=None),
        "answer_tokens_per_second": max((speed[1] for speed in known), default=None),
    }


def _speed(conversation: Any) -> tuple[float, float] | None:
    info = conversation.get_benchmark_info()
    if info is None:
        return None
    return float(info.last_prefill_tokens_per_second), float(info.last_decode_tokens_per_second)


def _peak() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _stand_in_for_tensorflow() -> None:
    """litert-torch imports one module of tensorflow that it does not declare; ai-edge-litert carries the same one."""
    from ai_edge_litert import schema_py_generated

    for name in ("tensorflow", "tensorflow.lite", "tensorflow.lite.python"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    vars(sys.modules["tensorflow.lite.python"])["schema_py_generated"] = schema_py_generated
    sys.modules["tensorflow.lite.python.schema_py_generated"] = schema_py_generated


if __name__ == "__main__":
    command, *given = sys.argv[1:]
    if command == "make":
        found = make(Path(given[0]), Path(given[1]), int(given[2]))
    else:
        found = ask(Path(given[0]), Path(given[1]))
    print("\n" + json.dumps(found), flush=True)
