"""The stage dataset: written pairs and example files in; train, valid and exam out, with a report on all of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from werkmeister.artefact import Artefact, making, open_artefact, read_manifest, sha256_of
from werkmeister.bases.base import Base
from werkmeister.chat import Example, Message, write_examples
from werkmeister.config import as_json, setting
from werkmeister.corpus.replaying import write_replay
from werkmeister.corpus.written_examples import Estimate, Pairs, dress_pairs, read_pairs, settle_splits, tell_of_pairs
from werkmeister.errors import DataError
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.corpus.duplicates import Dropped
    from werkmeister.corpus.hub import HubName
    from werkmeister.corpus.reading import Source
    from werkmeister.corpus.shapes import Given

VERSION = 2
EXAMPLES = ("examples.jsonl",)
"""The files of examples that are read where expert.toml names none; beside documents they need not be there."""

_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """Where the examples come from, and how they are divided."""

    files: tuple[str, ...] = setting(
        EXAMPLES,
        help="files, patterns such as data/*.csv, or Hugging Face data sets (org/name, org/name:config:split)",
    )
    script: str = setting(
        "", help="Python script in the expert's folder that makes the files, called with an output folder; empty: none"
    )
    script_args: tuple[str, ...] = setting((), help="further arguments of the script")
    script_packages: tuple[str, ...] = setting(
        (), help="packages that decide what the script makes: a new version makes the dataset stale"
    )
    replay: tuple[str, ...] = setting(
        (), help="files of general examples for train.replay, as for files; empty: the base answers general prompts"
    )
    valid: float = setting(
        0.05, help="examples watched while training", unit="share of what has no split", low=0, high=0.5
    )
    exam: float = setting(
        0.1, help="examples held out for the exam", unit="share of what has no split", low=0, high=0.5
    )
    exam_limit: int = setting(400, help="largest exam that is cut from the files; 0: no limit", unit="examples", low=0)
    seed: int = setting(0, help="seed of the division", low=0)
    near_duplicate: float = setting(
        0.9,
        help="examples with the same answer and prompts this alike are near duplicates; 0: only exact ones count",
        unit="Jaccard similarity of character 5-grams",
        low=0,
        high=1,
    )
    max_length: int = setting(
        0,
        help="longest example, prompt and answer; longer ones are dropped; 0: context of the base",
        unit="tokens",
        low=0,
    )

    def __post_init__(self) -> None:
        if self.valid + self.exam > 0.9:
            raise ValueError(f"valid = {self.valid} and exam = {self.exam} leave too little for train")


def dataset_inputs(
    expert: Path, settings: DatasetSettings, base: Base, system: str, *, written: bool = False
) -> dict[str, str]:
    """What the dataset depends on: hashes of the example files, or of the script and all beside it, and the base.

    Fast, and never fails for a file that is missing: that is told when the stage runs. A file that only the script
    makes is stood for by the script; a hub data set by its name. With `written` pairs a person's decisions count too.
    """
    inputs = {"base": base.identity, "system": system}
    if written:
        from werkmeister.corpus.decisions import decisions_inputs

        inputs |= decisions_inputs(expert)
    if settings.script:
        from werkmeister.corpus.script import script_inputs

        inputs |= script_inputs(expert, settings.script, settings.script_args, settings.script_packages)
    for entry in (*settings.files, *settings.replay):
        found = _matches(entry, [expert])
        for path, name in found:
            inner = [f for f in sorted(path.rglob("*")) if f.is_file()] if path.is_dir() else [path]
            for file in inner:
                label = name if file == path else f"{name}/{file.relative_to(path).as_posix()}"
                inputs[f"file {label}"] = sha256_of(file)
        if not found:
            inputs[f"file {entry}"] = "by the script" if settings.script else "not on this machine"
    return inputs


def dataset(
    expert: Path,
    output: Path,
    settings: DatasetSettings,
    *,
    base: Base,
    system: str,
    progress: Progress,
    documents: Path | None = None,
    written: Path | None = None,
    estimate: Estimate | None = None,
) -> Artefact:
    """Make the artefact of kind "dataset": train.jsonl, valid.jsonl, exam.jsonl, report.json, report.html.

    The `system` message stands in front of every prompt that brings none of its own. `written` is the artefact of the
    stage write, whose pairs are taken beside the example files, and `documents` the one that they were written from;
    `estimate` tells the report how long training will take. Raises DataError with every mistake in the files, and when
    too few examples are left to divide.
    """
    inputs = dataset_inputs(expert, settings, base, system, written=written is not None)
    inputs |= _identities(documents=documents, write=written)
    with making("dataset", output, version=VERSION, inputs=inputs, settings=as_json(settings)) as draft:
        made = _script_output(expert, settings, draft.scratch, progress)
        sources = [] if _only_pairs(expert, settings, written) else read_files(expert, settings, progress, made=made)
        given, notes = _given(sources, alone=written is None)
        pairs = read_pairs(expert, documents, written) if written else None
        limit = min(settings.max_length or base.context_length, base.context_length)
        kept, dropped, tokens = _clean(given, pairs, settings, base, system, limit, progress)
        splits = _divide(kept, pairs, settings, notes)
        near = settings.near_duplicate or 1.0
        if pairs:
            splits, leaks = dress_pairs(splits, pairs, near)
            dropped += leaks
            notes += pairs.notes
        splits = {name: [_with_system(e, system) for e in examples] for name, examples in splits.items()}
        if pairs:
            splits, tokens = _fit(splits, base, limit, dropped, progress)
        lengths = {name: [tokens[_name(example)] for example in examples] for name, examples in splits.items()}
        for name, examples in splits.items():
            write_examples(draft.path / f"{name}.jsonl", examples)
        draft.facts |= _facts(splits, lengths, base, system)
        if settings.replay:
            general = read_files(expert, replace(settings, files=settings.replay), progress)
            draft.facts["replay"] = write_replay(general, splits, base, limit, draft.path, progress)
        from werkmeister.corpus.report import by_part, make_report, write_report
        from werkmeister.corpus.splits import unexamined

        draft.measures["parts"] = by_part(splits)
        notes += unexamined(draft.measures["parts"])
        told = tell_of_pairs(pairs, splits, lengths, near, estimate) if pairs else {}
        told |= {"splits": splits, "lengths": lengths, "notes": notes}
        report = make_report(sources=sources, dropped=dropped, base=base, limit=limit, **told)
        write_report(report, draft.path)
        read = len(given) + (len(pairs.bare) if pairs else 0)
        draft.measures |= {"read": read, "dropped": report["dropped_counts"], "tokens": report["tokens"]}
        if pairs:
            draft.measures |= {"contamination": told["contamination"], "decisions": dict(pairs.applied.counts)}
        for text in (*notes, _summary(read, dropped, splits)):
            progress.say(text)
    return open_artefact(output, "dataset")


def _identities(**artefacts: Path | None) -> dict[str, str]:
    return {name: str(read_manifest(path)["identity"]) for name, path in artefacts.items() if path}


def _only_pairs(expert: Path, settings: DatasetSettings, written: Path | None) -> bool:
    """Whether there are no example files: none was named, and the default one is not there."""
    return (
        written is not None
        and settings.files == EXAMPLES
        and not settings.script
        and not _matches(EXAMPLES[0], [expert])
    )


def _script_output(expert: Path, settings: DatasetSettings, scratch: Path, progress: Progress) -> Path | None:
    if not settings.script:
        return None
    from werkmeister.corpus.script import run_script

    folder = scratch / "script"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    run_script(expert, settings.script, settings.script_args, folder, progress)
    return folder


def _matches(entry: str, roots: Iterable[Path]) -> list[tuple[Path, str]]:
    """The files (or one data folder) that an entry of `files` names, from the first root that has any, with names."""
    given = Path(entry).expanduser()
    if given.is_absolute():
        anchor = Path(given.anchor)
        return [(path, str(path)) for path, _ in _matches(given.relative_to(anchor).as_posix(), [anchor])]
    for root in roots:
        exact = root / given
        if exact.exists():
            return [(exact, entry)]
        found = sorted(path for path in root.glob(entry) if path.is_file()) if any(c in entry for c in "*?[") else []
        if found:
            return [(path, path.relative_to(root).as_posix()) for path in found]
    return []


def read_files(
    expert: Path, settings: DatasetSettings, progress: Progress, *, made: Path | None = None
) -> list[Source]:
    """Every source that `dataset.files` names, or one DataError with the mistakes of all of them.

    `made` is the folder that the script wrote into; it is looked through before the expert's own.
    """
    from werkmeister.corpus.findings import Findings
    from werkmeister.corpus.hub import HubName, collect_hub, parse_hub_name
    from werkmeister.corpus.reading import collect_source

    findings = Findings()
    sources: list[Source] = []
    for entry in settings.files:
        found = _matches(entry, [made, expert] if made else [expert])
        if not found:
            name: HubName | None = parse_hub_name(entry)
            if name:
                sources += collect_hub(name, None, findings, progress)
            else:
                where = f"{made} and {expert}" if made else str(expert)
                findings.add(f"{entry}: no such file in {where}", "correct dataset.files in expert.toml")
        for path, label in found:
            if path.is_dir():
                sources += collect_hub(HubName(id=label), path.resolve(), findings, progress)
            else:
                source = collect_source(path, label, findings, progress)
                sources += [source] if source else []
    findings.fail("the example files")
    return sources


def _given(sources: Sequence[Source], *, alone: bool) -> tuple[list[Given], list[str]]:
    """All examples, and what a person should know of how they were read; `alone`: there are no written pairs."""
    given = [one for source in sources for one in source.given]
    notes = [f"{source.name}: columns not used: {', '.join(source.unused)}" for source in sources if source.unused]
    named = {one.split for one in given}
    if alone and len(named) == 1 and named != {""}:
        (only,) = named
        notes.append(f"every example says split = {only}, so the splits are cut afresh")
        given = [replace(one, split="") for one in given]
    return given, notes


def _clean(
    given: list[Given],
    pairs: Pairs | None,
    settings: DatasetSettings,
    base: Base,
    system: str,
    limit: int,
    progress: Progress,
) -> tuple[list[Given], list[Dropped], dict[tuple[str, str], int]]:
    """What is left after duplicates, leakage and length; what was dropped; tokens by name.

    Pairs are bare yet, and their length is looked at when they have their passages.
    """
    from werkmeister.corpus.duplicates import LONG, Dropped, drop_exact, drop_near

    kept, dropped = drop_exact([*given, *(pairs.bare if pairs else ())])
    kept, near = drop_near(kept, settings.near_duplicate, progress)
    dropped += near
    brought = [one for one in kept if not one.written]
    counts = _count([_with_system(one.example, system) for one in brought], base, progress)
    tokens = {_name(one.example): count for one, count in zip(brought, counts, strict=True)}
    for one in brought:
        if tokens[_name(one.example)] > limit:
            dropped.append(Dropped(example=one.example, reason=LONG, tokens=tokens[_name(one.example)]))
    return [one for one in kept if one.written or tokens[_name(one.example)] <= limit], dropped, tokens


def _count(examples: Sequence[Example], base: Base, progress: Progress) -> list[int]:
    """The tokens of each example, prompt and answer."""
    from werkmeister.bases.tokens import count_tokens, load_tokenizer

    counts: list[int] = []
    if not examples:
        return counts
    tokenizer = load_tokenizer(base)
    with progress.track("count tokens", len(examples)) as track:
        for start in range(0, len(examples), _BATCH):
            batch = examples[start : start + _BATCH]
            counts += count_tokens(tokenizer, batch)
            track.advance(len(batch))
    return counts


def _name(example: Example) -> tuple[str, str]:
    """What tells an example from every other of the dataset, with or without the system message."""
    return example.source, example.question


def _fit(
    splits: Mapping[str, list[Example]], base: Base, limit: int, dropped: list[Dropped], progress: Progress
) -> tuple[dict[str, list[Example]], dict[tuple[str, str], int]]:
    """Splits without what is too long now that every prompt is whole, and the tokens by name."""
    from werkmeister.corpus.duplicates import LONG, Dropped

    everything = [example for examples in splits.values() for example in examples]
    tokens = {_name(e): n for e, n in zip(everything, _count(everything, base, progress), strict=True)}
    for example in everything:
        if tokens[_name(example)] > limit:
            dropped.append(Dropped(example=example, reason=LONG, tokens=tokens[_name(example)]))
    left = {name: [e for e in own if tokens[_name(e)] <= limit] for name, own in splits.items()}
    for name, own in splits.items():
        if own and not left[name]:
            shortest = min(tokens[_name(e)] for e in own)
            raise DataError(
                f"all {len(own):,} examples of {name} are longer than {limit:,} tokens (the shortest has {shortest:,})",
                hint=f"set dataset.max_length to {shortest} or more (0: context of the base), or shorten the passages",
            )
    return left, tokens


def _with_system(example: Example, system: str) -> Example:
    if not system or example.prompt[0].role == "system":
        return example
    return replace(example, prompt=(Message("system", system), *example.prompt))


def _divide(
    kept: Sequence[Given], pairs: Pairs | None, settings: DatasetSettings, notes: list[str]
) -> dict[str, list[Example]]:
    """Cut by the settings; beside written pairs, what a person gave a split keeps it, and the rest is cut."""
    from werkmeister.corpus.splits import FEWEST, parted_groups, split

    fixed, rest = settle_splits(kept, pairs) if pairs else ([], list(kept))
    if len(rest) < FEWEST and {one.split for one in fixed} >= {"exam", "valid"}:
        fixed, rest = [*fixed, *(replace(one, split="train") for one in rest)], []
    taken = sum(one.split == "exam" for one in fixed)
    limit = max(1, settings.exam_limit - taken) if settings.exam_limit else 0
    splits: dict[str, list[Example]] = {
        name: [one.example for one in fixed if one.split == name] for name in ("train", "valid", "exam")
    }
    if rest:
        shares = {"valid": settings.valid, "exam": settings.exam}
        filled = {one.split for one in fixed if not shares.get(one.split, 1)}
        cut = split(rest, **shares, exam_limit=limit, seed=settings.seed, filled=filled)
        for name, share in shares.items():
            if cut[name] and not share and not any(one.split == name for one in rest):
                count = len(cut[name])
                notes.append(
                    f"dataset.{name} = 0, and no split may be empty: the smallest group, {count:,} "
                    f"example{'s' * (count > 1)}, went into {name}"
                )
        splits = {name: [*own, *cut[name]] for name, own in splits.items()}
    parted = parted_groups(splits)
    if parted:
        notes.append(f"{len(parted)} groups stand in more than one split, as the files say: {', '.join(parted[:5])}")
    own = sum(one.example.prompt[0].role == "system" for one in kept)
    if own:
        notes.append(f"{own} examples bring their own system message, which was kept")
    return splits


def _facts(
    splits: Mapping[str, Sequence[Example]], lengths: Mapping[str, Sequence[int]], base: Base, system: str
) -> dict[str, object]:
    everything = [example for examples in splits.values() for example in examples]
    return {
        "base": {"name": base.name, "identity": base.identity, "context_length": base.context_length},
        "system": system,
        "splits": {name: {"examples": len(examples)} for name, examples in splits.items()},
        "parts": sorted({example.part for example in splits["exam"] if example.part}),
        "labels": sorted({example.label for example in everything if example.label}),
        "longest_tokens": max(max(counts, default=0) for counts in lengths.values()),
    }


def _summary(read: int, dropped: Sequence[Dropped], splits: Mapping[str, Sequence[Example]]) -> str:
    counts = Counter(one.reason for one in dropped)
    lost = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
    sizes = ", ".join(f"{name} {len(examples):,}" for name, examples in splits.items())
    return f"{read:,} examples read; dropped: {lost or 'none'}; {sizes}"
