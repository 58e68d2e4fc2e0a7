"""What `werkmeister export --target` does: the exported model as something that is shipped."""

from __future__ import annotations

from pathlib import Path

from werkmeister.config import Settings

TARGETS = ("browser",)


def export_target(settings: Settings, target: str, output: Path | None, file: str, *, as_json: bool) -> None:
    """Bring the export up to date and make `target` of it in `output`, else in a folder of that name."""
    from werkmeister.console import live, show_json
    from werkmeister.delivery.browser import browser_bundle
    from werkmeister.pipeline import run_stage

    progress = live()
    run_stage(settings, "export", progress=progress)
    folder = output or settings.folder / target
    made = browser_bundle(settings.folder, folder, settings=settings.table("ask"), file=file, progress=progress)
    if as_json:
        show_json(made.record())
    else:
        print(made.words())
