"""What `werkmeister export --target` does: the exported model as something that is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.config import Settings
from werkmeister.errors import SettingsError

if TYPE_CHECKING:
    from werkmeister.delivery.bundle import Bundle

TARGETS = ("gguf", "adapter", "ollama", "huggingface", "browser", "phone")


def export_target(
    settings: Settings, target: str, output: Path | None, file: str, python: Path | None = None, *, as_json: bool
) -> None:
    """Bring the export up to date and make `target` of it in `output`, else in a folder of that name."""
    from werkmeister.console import live, show_json
    from werkmeister.pipeline import run_stage

    if python is not None and target != "phone":
        raise SettingsError(f"--python is for --target phone, and the target is {target}", hint="leave --python out")
    progress = live()
    run_stage(settings, "export", progress=progress)
    order = {"settings": settings.table("ask"), "file": file, "progress": progress}
    made = make_bundle(target, settings.folder, output or settings.folder / target, python=python, **order)
    if as_json:
        show_json(made.record())
    else:
        print(made.words())


def make_bundle(target: str, expert: Path, output: Path, *, python: Path | None = None, **order: Any) -> Bundle:
    """Make one of `TARGETS` of the built expert in `expert`; `order` is what `bundle.place_order` takes beside it.

    `python` is that of LiteRT's environment, for phones. Raises as the target's own function does.
    """
    from werkmeister.delivery import (
        adapter_target,
        browser,
        gguf_target,
        huggingface_target,
        ollama_target,
        phone_target,
    )
    from werkmeister.delivery.bundle import place_order

    if target == "browser":
        return browser.browser_bundle(expert, output, **order)
    placed = place_order(expert, **order)
    if target == "phone":
        return phone_target.phone_bundle(placed, output, python)
    makers = {
        "gguf": gguf_target.gguf_bundle,
        "adapter": adapter_target.adapter_bundle,
        "ollama": ollama_target.ollama_bundle,
        "huggingface": huggingface_target.huggingface_bundle,
    }
    return makers[target](placed, output)
