"""The adapter target: what was learnt alone, as a PEFT folder and as a GGUF to be laid over the base's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from werkmeister.delivery.bundle import (
    LICENCES,
    README,
    TEMPLATE,
    Bundle,
    Order,
    add_golden,
    base_licence,
    base_name,
    copy_file,
    made,
    making_bundle,
    serving,
    trained_for,
    write_text,
)
from werkmeister.delivery.gguf_target import readme
from werkmeister.errors import DataError

PEFT = "adapter"
"""The folder of the adapter as PEFT wrote it."""
CONFIG = "adapter_config.json"
_README = """# {name}: the adapter alone

What was learnt, without the base. It belongs to exactly one base, {base}:

{files}

- `adapter.gguf` for llama.cpp:
  `llama-server -m BASE.gguf --lora adapter.gguf -c {context} --jinja --chat-template-file chat_template.jinja`
- `adapter/` for PEFT: `PeftModel.from_pretrained(base, "adapter")`

`werkmeister verify . --base BASE.gguf` checks that the base is the one above, and asks the golden prompts again.

System message:

{system}
{documents}"""


def adapter_bundle(order: Order, output: Path) -> Bundle:
    """Write the adapter of the built expert into the folder `output`, with the hash of the base that it belongs to.

    Raises DataError when a file was asked for, which names a quantisation, which an adapter is none of.
    """
    if order.file:
        raise DataError(
            f"--file {order.file} names a merged file, and the adapter is one file", hint="leave --file out"
        )
    name = order.built.facts["adapter"]
    with making_bundle(output, "adapter", order) as draft:
        copy_file(order.built.file(name), draft.folder / name, order.progress)
        write_peft(order, draft.folder / PEFT)
        add_golden(draft, order, name)
        # The base's own file may bring no template, or another than the one that was trained with.
        (draft.folder / TEMPLATE).write_bytes(order.template.encode("utf-8"))
        draft.facts |= {"serving": serving(order, name), "base": base_facts(order)}
        lines = ("This bundle carries an adapter and no part of its base.", "", base_licence(order))
        write_text(draft.folder / LICENCES, "\n".join(lines))
        files = order.built.facts["base_file"].items()
        listed = "\n".join(f"    {found}  SHA-256 {said['sha256']}" for found, said in files)
        write_text(draft.folder / README, readme(order, _README, base=base_name(order), files=listed))
    return made(output, "adapter", name, f"Check it: werkmeister verify {output} --base BASE.gguf")


def base_facts(order: Order) -> dict[str, Any]:
    """The base by name, identity and the hashes of its weight files."""
    base = order.built.facts["base"]
    return {"name": base_name(order), "identity": base["identity"], "files": order.built.facts["base_file"]}


def write_peft(order: Order, folder: Path) -> None:
    """Copy the PEFT folder; the base's place on this machine becomes its name."""
    trained = trained_for(order)
    folder.mkdir()
    for name in trained.outputs:
        if name.startswith("adapter/"):
            shutil.copyfile(trained.file(name), folder / name.removeprefix("adapter/"))
    config = folder / CONFIG
    held = json.loads(config.read_text(encoding="utf-8")) | {"base_model_name_or_path": base_name(order)}
    write_text(config, json.dumps(held, ensure_ascii=False, indent=2))
