"""The command line: one thin function a verb over one public function each; heavy imports stand inside."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from werkmeister import __version__

Verb = TypeVar("Verb", bound=Callable[..., None])

_EXPERT = click.argument("expert", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
_SET = click.option("--set", "overrides", multiple=True, metavar="TABLE.KEY=VALUE", help="Override a setting.")
_FILE = click.option("--file", default="", help="Which file answers (Q8_0, Q4_K_M, …); default: what the exam decided.")
_DOCUMENTS = click.option(
    "--document",
    "documents",
    multiple=True,
    metavar="NAME",
    help="Answer from this document of the library alone, as sources name it; may be given several times.",
)
_BUDGET = click.option(
    "--budget-tokens",
    type=int,
    metavar="N",
    help="Most tokens that a teacher may use; short for --set write.budget_tokens=N.",
)
_LIMIT = click.option("--limit", type=int, metavar="N", help="Write about N passages; short for --set write.limit=N.")
_PYTHON = click.option(
    "--python",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Python of an environment with litert-torch and litert-lm, for phones; default: one made in the cache.",
)
_AGAIN = click.option("--again", is_flag=True, help="Run it even when nothing changed.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="werkmeister")
def main() -> None:
    """Make a private, measured expert out of a small language model, and run it on your own hardware."""
    from werkmeister.building.processes import silence_followers

    silence_followers()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")


def _writing(function: Verb) -> Verb:
    """Declare --budget-tokens and --limit, which become overrides like those of --set."""

    @functools.wraps(function)
    def folded(
        *args: Any, overrides: tuple[str, ...], budget_tokens: int | None, limit: int | None, **options: Any
    ) -> None:
        short = {"write.budget_tokens": budget_tokens, "write.limit": limit}
        given = tuple(f"{key}={value}" for key, value in short.items() if value is not None)
        function(*args, overrides=overrides + given, **options)

    return _BUDGET(_LIMIT(folded))  # type: ignore[return-value]


def _verb(function: Verb, *, resumes: bool = False) -> Verb:
    """Turn errors into exit codes: 2 for what the person can mend, 1 for ours, 130 for Ctrl-C.

    `resumes` says that the same command goes on where Ctrl-C stopped it.
    """

    @functools.wraps(function)
    def guarded(*args: Any, as_json: bool, **options: Any) -> None:
        from werkmeister.errors import MachineError, StoppedByUser, WerkmeisterError
        from werkmeister.machine import explain_os_error

        try:
            function(*args, as_json=as_json, **options)
            return
        except WerkmeisterError as error:
            told: WerkmeisterError = error
        except OSError as error:
            explained = explain_os_error(error)
            if explained is None:
                raise
            told = explained
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("werkmeister"):
                raise
            told = MachineError(f"the package {error.name} is missing", hint="pip install 'werkmeister[build]'")
        except KeyboardInterrupt:
            told = StoppedByUser("stopped")
            if resumes:
                told = StoppedByUser("stopped; what was complete is kept", hint="the same command goes on from there")
        from werkmeister.console import show_error

        show_error(told, as_json=as_json)
        sys.exit(told.exit_code)

    return _JSON(guarded)  # type: ignore[return-value]


def _working(function: Verb) -> Verb:
    """Declare a verb that runs stages."""
    return _verb(function, resumes=True)


@main.command()
@_EXPERT
@click.option("--base", default="smollm2-135m", show_default=True, help="Base model of the new expert.")
@click.option(
    "--documents",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder, file or pattern of documents to make the expert from; may be given several times.",
)
@_verb
def new(expert: Path, base: str, documents: tuple[Path, ...], as_json: bool) -> None:
    """Make a folder with a commented expert.toml, and an examples file where no documents are given."""
    from werkmeister.console import show_json
    from werkmeister.starting import new_expert

    files = new_expert(expert, base, documents)
    if as_json:
        show_json({"expert": str(expert), "files": [str(file) for file in files]})
    else:
        print(f"Made {', '.join(str(file) for file in files)}\nNext: werkmeister check {expert}")


@main.command()
@_EXPERT
@_SET
@_verb
def check(expert: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what a build will do, need and take, before any work."""
    from werkmeister.checking import check_expert, show_check
    from werkmeister.console import live, show_json
    from werkmeister.pipeline import read_expert

    found = check_expert(read_expert(expert, overrides), progress=live())
    if as_json:
        show_json(found)
    else:
        show_check(found)
    sys.exit(2 if found["problems"] else 0)


@main.command()
@_EXPERT
@_SET
@click.option("--finish", is_flag=True, help="End an interrupted training with its best checkpoint.")
@_writing
@_working
def build(expert: Path, overrides: tuple[str, ...], finish: bool, as_json: bool) -> None:
    """From documents and examples to the exam: run every stage that is missing or stale."""
    from werkmeister.console import live
    from werkmeister.pipeline import build as run
    from werkmeister.pipeline import read_expert
    from werkmeister.showing import show_build

    show_build(run(read_expert(expert, overrides), progress=live(), finish=finish), as_json=as_json)


def _stage(stage: str, help_text: str, *, finishing: bool = False, writing: bool = False) -> None:
    """Declare the verb that runs one stage alone."""

    @_working
    def run(expert: Path, overrides: tuple[str, ...], again: bool, as_json: bool, finish: bool = False) -> None:
        from werkmeister.console import live
        from werkmeister.pipeline import read_expert, run_stage
        from werkmeister.showing import show_stage

        done = run_stage(read_expert(expert, overrides), stage, progress=live(), finish=finish, again=again)
        show_stage(done, as_json=as_json)

    if writing:
        run = _writing(run)
    if finishing:
        run = click.option("--finish", is_flag=True, help="End an interrupted run with its best checkpoint.")(run)
    main.command(stage, help=help_text)(_EXPERT(_SET(_AGAIN(run))))


_stage("documents", "Read the documents and cut them into passages.")
_stage("index", "Make the documents findable: by words, and by meaning where an embedding model is installed.")
_stage("write", "Write questions and answers from the passages, and check each.", writing=True)
_stage(
    "dataset",
    "Take what was written and the examples, remove duplicates, and divide them into train, valid and exam.",
    writing=True,
)
_stage("train", "Train the adapter (QLoRA) on the dataset.", finishing=True)


@main.command()
@_EXPERT
@_SET
@click.option("--once", is_flag=True, help="Show it once, and do not wait for the end.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the page with all curves, as they stand, here.")
@_verb
def watch(expert: Path, overrides: tuple[str, ...], once: bool, report: Path | None, as_json: bool) -> None:
    """Watch a training from another terminal: loss, speed, memory, power, time left; or see one that is over."""
    from werkmeister.pipeline import read_expert
    from werkmeister.watching import watch_expert

    watch_expert(read_expert(expert, overrides), once=once, report=report, as_json=as_json)


@main.command()
@_EXPERT
@_SET
@_AGAIN
@click.option(
    "--target",
    type=click.Choice(["gguf", "adapter", "ollama", "huggingface", "browser", "phone"]),
    help="Ship it: a folder with the model for that use, its licence and its golden answers.",
)
@click.option(
    "--table", is_flag=True, help="Examine all files, and show score, size and speed of each beside the other."
)
@_PYTHON
@click.option("--output", type=click.Path(path_type=Path), help="Folder for --target; default: EXPERT/TARGET.")
@_FILE
@_working
def export(
    expert: Path, overrides: tuple[str, ...], again: bool, target: str, file: str, as_json: bool, **given: Any
) -> None:
    """Merge, write GGUF, quantise, and compare each file with the trained model; --target makes what is shipped."""
    from werkmeister.console import live
    from werkmeister.deciding import show_decision
    from werkmeister.exporting import export_target
    from werkmeister.pipeline import read_expert, run_stage
    from werkmeister.showing import show_stage

    settings = read_expert(expert, overrides)
    if target:
        export_target(settings, target, given["output"], file, given["python"], as_json=as_json)
    elif given["table"]:
        show_decision(settings, as_json=as_json)
    else:
        show_stage(run_stage(settings, "export", progress=live(), again=again), as_json=as_json)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), help="GGUF of the base, for a bundle with the adapter alone.")
@_PYTHON
@_verb
def verify(bundle: Path, base: Path, python: Path, as_json: bool) -> None:
    """Check a shipped bundle where it is to run: files, template, context, and the golden answers."""
    from werkmeister.verifying import verify as run

    run(bundle, base, python, as_json=as_json)


_stage("exam", "Put the held-out exam to base, baseline, adapter and every file.")


@main.command()
@_EXPERT
@_SET
@click.option("--export", type=click.Path(path_type=Path), help="Write the pairs into a CSV file to decide in.")
@click.option(
    "--import", "import_", type=click.Path(path_type=Path, exists=True), help="Read decisions from such a file."
)
@click.option("--sample", default=0, metavar="N", help="N verified pairs at random instead of all.")
@click.option("--seed", default=0, help="Seed of the sample.")
@click.option("--port", default=0, help="Port of the page; 0: any that is free.")
@click.option("--no-browser", is_flag=True, help="Print the page's address and open nothing.")
@_verb
def review(expert: Path, overrides: tuple[str, ...], no_browser: bool, as_json: bool, **options: Any) -> None:
    """Decide by hand on what was written: keep, edit or drop, in the browser or in a CSV file."""
    from werkmeister.console import live
    from werkmeister.pipeline import read_expert
    from werkmeister.reviewing import review_expert, show_review

    settings = read_expert(expert, overrides)
    show_review(review_expert(settings, **options, open_page=not no_browser, progress=live()), as_json=as_json)


@main.command()
@_EXPERT
@click.argument("question")
@_SET
@_FILE
@_DOCUMENTS
@_verb
def ask(
    expert: Path, question: str, overrides: tuple[str, ...], file: str, documents: tuple[str, ...], as_json: bool
) -> None:
    """Put one question to the expert."""
    from werkmeister.consulting.expert import open_expert
    from werkmeister.pipeline import read_expert
    from werkmeister.talking import show_answer

    with open_expert(expert, settings=read_expert(expert, overrides).table("ask"), file=file) as opened:
        show_answer(opened.within(documents), question, as_json=as_json)


@main.command()
@_EXPERT
@_SET
@_FILE
@_DOCUMENTS
@_verb
def chat(expert: Path, overrides: tuple[str, ...], file: str, documents: tuple[str, ...], as_json: bool) -> None:
    """Talk with the expert in the terminal; with --json, one question a line in and one JSON answer a line out."""
    from werkmeister.consulting.expert import open_expert
    from werkmeister.pipeline import read_expert
    from werkmeister.talking import talk

    with open_expert(expert, settings=read_expert(expert, overrides).table("ask"), file=file) as opened:
        talk(opened.within(documents), as_json=as_json)


@main.command()
@_EXPERT
@_SET
@_FILE
@click.option("--port", type=int, help="Port to listen on; short for --set serve.port=N.")
@click.option("--new-key", metavar="NAME", help="Make an API key for somebody, print it once, and end.")
@click.option("--install", is_flag=True, help="Write a systemd user unit that serves it, and end.")
@_verb
def serve(expert: Path, port: int | None, new_key: str, install: bool, file: str, as_json: bool, **given: Any) -> None:
    """Serve the expert: a chat page, and OpenAI's routes for programs."""
    from werkmeister.pipeline import read_expert
    from werkmeister.serving import install_server, run_server, show_new_key

    overrides = (*given["overrides"], *([f"serve.port={port}"] if port is not None else []))
    settings = read_expert(expert, overrides)
    if new_key:
        show_new_key(expert, new_key, as_json=as_json)
    elif install:
        install_server(settings, overrides, file, as_json=as_json)
    else:
        run_server(settings, file, as_json=as_json)


if __name__ == "__main__":
    main()
