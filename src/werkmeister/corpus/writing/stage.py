"""The stage write: passages in; verified pairs of question and answer out, with a reason for each that was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.artefact import Artefact, making, open_artefact, sha256_of, write_json
from werkmeister.config import as_json, setting
from werkmeister.corpus.lines import write_lines
from werkmeister.errors import DataError
from werkmeister.governing.policy import PolicySettings
from werkmeister.memory import Memory, name_of
from werkmeister.progress import Progress

if TYPE_CHECKING:
    from werkmeister.corpus.documents.document import Document
    from werkmeister.corpus.writing.asking import Asker
    from werkmeister.corpus.writing.pair import DroppedPair, Pair, Writer
    from werkmeister.passage import Passage

VERSION = 3
WRITERS = ("structural", "teacher")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """Who writes questions and answers from the documents, and in which shares they are asked."""

    writers: tuple[str, ...] = setting(
        ("structural",), help="who writes: structural (by rule, no model), teacher (the model of write.teacher)"
    )
    language: str = setting(
        "auto", help="language of the questions; auto: that of each document", choices=("auto", "en", "de")
    )
    forms: int = setting(2, help="question forms that the structural writer asks a fact in", low=1, high=6)
    per_passage: int = setting(
        8, help="facts of one passage that the structural writer asks about, spread over its kinds; 0: all", low=0
    )
    open_book: float = setting(
        0.8,
        help="answerable pairs that are asked with their passage; the rest is asked from memory, in train alone",
        unit="share",
        low=0,
        high=1,
    )
    loose: float = setting(
        0.5,
        help="open-book questions that are asked as people do who have the thing before them: without its name, in "
        "half sentences, in other words",
        unit="share",
        low=0,
        high=1,
    )
    unanswerable: float = setting(
        0.2, help="questions that their passage does not answer", unit="share of the open-book pairs", low=0, high=0.8
    )
    distractors: int = setting(0, help="further passages beside the right one, in random order", low=0, high=3)
    limit: int = setting(0, help="passages that are written about, spread over all documents; 0: all", low=0)
    personal: str = setting(
        "flag", help="pairs with e-mail addresses, phone, card or account numbers", choices=("flag", "drop")
    )
    teacher: str = setting(
        "",
        help="model that writes, judges and answers prompts: a base by name, a .gguf file, or the URL of an "
        "OpenAI-compatible endpoint ending in /v1, whose host policy.allow must name",
    )
    teacher_model: str = setting("", help="the model's name at the endpoint; empty: the only one that it serves")
    key_env: str = setting("", help="environment variable that holds the endpoint's API key")
    budget_tokens: int = setting(0, help="most tokens that a run may ask of the teacher; 0: no bound", low=0)
    budget_seconds: int = setting(
        0,
        help="longest time that a run may ask the teacher; what is under way then may still end; 0: no bound",
        unit="s",
        low=0,
    )
    prompt_price: float = setting(
        0.0,
        help="what a million tokens of prompts cost, in your currency; 0: not told, and no cost is counted",
        low=0,
        decides=False,
    )
    answer_price: float = setting(0.0, help="what a million tokens of answers cost, alike", low=0, decides=False)
    concurrency: int = setting(0, help="requests to the teacher at once; 0: 4 to an endpoint, 1 to a file", low=0)
    judge: bool = setting(False, help="the teacher judges every pair, and what it turns down is dropped")
    prompts: tuple[str, ...] = setting((), help="files of prompts (one a line, or JSONL) that the teacher answers")
    seed: int = setting(0, help="seed of every choice by chance", low=0)

    def __post_init__(self) -> None:
        unknown = [name for name in self.writers if name not in WRITERS]
        if unknown:
            raise ValueError(f"writers = {', '.join(unknown)}: known are {', '.join(WRITERS)}")
        if not self.writers and not self.prompts:
            raise ValueError(f"writers is empty, so nobody writes: name {' or '.join(WRITERS)}")
        asking = {"writers holds teacher": "teacher" in self.writers, "judge is true": self.judge}
        asking["prompts are given"] = bool(self.prompts)
        why = next((words for words, asked in asking.items() if asked), "")
        if why and not self.teacher:
            raise ValueError(f"{why}, and teacher is empty: name a model, a .gguf file or the URL of an endpoint")


def write_inputs(expert: Path, settings: WriteSettings, system: str = "") -> dict[str, str]:
    """What the pairs depend on beside the documents: writers, the teacher's identity, files of prompts.

    Fast, and never fails for what is missing: that is told when the stage runs.
    """
    inputs = {}
    if "structural" in settings.writers:
        inputs["writer structural"] = name_of(_structural(settings).key)
    if settings.teacher:
        from werkmeister.engines.open import engine_inputs

        inputs |= engine_inputs(settings.teacher, model=settings.teacher_model, expert=expert)
    if settings.prompts:
        from werkmeister.corpus.writing.distil import prompt_files

        inputs |= {f"prompts {name}": sha256_of(path) for path, name in prompt_files(expert, settings.prompts)}
        inputs["system"] = system
    return inputs


def write(
    documents: Path | None,
    output: Path,
    settings: WriteSettings,
    *,
    expert: Path,
    policy: PolicySettings,
    home: Path,
    progress: Progress,
    system: str = "",
) -> Artefact:
    """Make the artefact of kind "write": pairs.jsonl, dropped.jsonl, report.json.

    `documents` is the artefact that they are written from (None: there are prompts alone); `system` the expert's
    system message, under which the teacher answers prompts. A line of pairs.jsonl is Pair.record with "group" (the
    family of documents, never parted between splits) and "flags"; one of dropped.jsonl has "check" and "reason" too.
    What a writer made of a document is remembered below `home`. Raises DataError when no pair is left, naming the
    largest reasons, SettingsError when the policy forbids the teacher, EngineError when its answers are rubbish.
    """
    inputs = write_inputs(expert, settings, system)
    source = open_artefact(documents, "documents") if documents else None
    if source:
        inputs["documents"] = source.identity
    with making("write", output, version=VERSION, inputs=inputs, settings=as_json(settings)) as draft:
        work = _Writing(source, settings, home, progress)
        with ExitStack() as stack:
            asker = stack.enter_context(_asker(settings, policy, expert, home, progress)) if settings.teacher else None
            work.run(asker, expert, system)
        work.require_pairs()
        work.finish(draft.path)
        draft.facts |= {"base": source.facts["base"]} if source else {}
        draft.facts |= {key: getattr(settings, key) for key in ("open_book", "loose", "distractors", "seed")}
        draft.facts["pairs"] = len(work.kept)
        counts = ("written", "checks", "kinds", "languages", "unanswerable", "families", "teacher")
        draft.measures |= {key: work.report[key] for key in counts if key in work.report}
        for note in work.notes:
            progress.say(note)
        progress.say(work.summary())
    return open_artefact(output, "write")


class _Writing:
    """One run of the stage: what was written, what of it is kept, and why the rest is not."""

    def __init__(self, source: Artefact | None, settings: WriteSettings, home: Path, progress: Progress) -> None:
        from werkmeister.corpus.documents.stage import load_documents
        from werkmeister.corpus.writing.choosing import choose

        self.settings, self.home, self.progress = settings, home, progress
        self.documents: list[tuple[Document, list[Passage]]] = list(load_documents(source)) if source else []
        self.passages = {passage.id: passage for _, passages in self.documents for passage in passages}
        self.chosen = choose([p for _, own in self.documents for p in own], settings.limit, settings.seed)
        self.kept: list[Pair] = []
        self.dropped: list[DroppedPair] = []
        self.notes: list[str] = []
        self.report: dict[str, Any] = {"asked": [passage.id for passage in self.chosen], "writers": {}}

    def run(self, asker: Asker | None, expert: Path, system: str) -> None:
        """Write, check, judge; then add what is not answerable."""
        written = self._write(asker, expert, system)
        self.report["written"] = len(written)
        self._check(written)
        if self.settings.judge and asker:
            from werkmeister.corpus.writing.judge import judge_pairs

            judged = judge_pairs(asker, self.kept, self.dropped, self.passages, seed=self.settings.seed)
            self.kept = list(judged.kept)
            self.dropped += judged.dropped
            self.report["judge"] = judged.agreement.record()
        if asker:
            self.report["teacher"] = asker.costs.record()
        self._add_unanswerable()

    def _write(self, asker: Asker | None, expert: Path, system: str) -> list[Pair]:
        pairs: list[Pair] = []
        if "structural" in self.settings.writers and self.documents:
            pairs += self._by_document(_structural(self.settings))
        if "teacher" in self.settings.writers and asker and self.chosen:
            from werkmeister.corpus.writing.teacher import Teacher

            teacher = Teacher(asker, language=self.settings.language, seed=self.settings.seed)
            teacher.ask(self.chosen)
            made = [pair for document, own in self._of_chosen() for pair in teacher.write(document, own)]
            pairs += self._counted(teacher.name, made)
            self.dropped += teacher.dropped
            if "structural" not in self.settings.writers:
                self.report["asked"] = list(teacher.asked)
        if self.settings.prompts and asker:
            from werkmeister.corpus.writing.distil import distil, read_prompts

            prompts = read_prompts(expert, self.settings.prompts, self.progress)
            distilled = distil(asker, prompts, system=system, language=self.settings.language)
            pairs += self._counted("prompts", distilled.pairs)
            self.dropped += distilled.dropped
            self.notes += distilled.notes
        return pairs

    def _by_document(self, writer: Writer) -> list[Pair]:
        """A writer's pairs of every document; what it made of one before, of the same passages, is remembered."""
        from werkmeister.corpus.documents.reading import record_of
        from werkmeister.corpus.writing.pair import pair_from_record

        memory = Memory(self.home, "pairs")
        made: list[Pair] = []
        with self.progress.track(f"write: {writer.name}", len(self.documents)) as track:
            for document, own in self._of_chosen():
                places = [[passage.id, passage.start] for passage in own]
                # Not the file's hash: a newer reader finds another title, or other headings, in the same file.
                key = ["write", writer.key, name_of(record_of(document)), places]
                known = memory.get(key)
                if known is None:
                    known = [pair.record() for pair in writer.write(document, own)]
                    memory.put(key, known)
                made += [pair_from_record(record) for record in known]
                track.advance(1, pairs=f"{len(made):,}")
        memory.forget_others()
        return self._counted(writer.name, made)

    def _of_chosen(self) -> Iterable[tuple[Document, list[Passage]]]:
        chosen = {passage.id for passage in self.chosen}
        for document, passages in self.documents:
            own = [passage for passage in passages if passage.id in chosen]
            if own:
                yield document, own

    def _counted(self, writer: str, pairs: list[Pair]) -> list[Pair]:
        self.report["writers"][writer] = len(pairs)
        return pairs

    def _check(self, written: Sequence[Pair]) -> None:
        from werkmeister.corpus.writing.checks import check_pair, check_together

        documents = {document.name: document for document, _ in self.documents}
        passed = []
        with self.progress.track("check", len(written)) as track:
            for pair in written:
                fallen = check_pair(
                    pair, documents.get(pair.document), self.passages.get(pair.passage), self.settings.personal
                )
                if fallen:
                    self.dropped.append(fallen)
                else:
                    passed.append(pair)
                track.advance()
        titles = {name: document.title for name, document in documents.items()}
        together = check_together(passed, titles, self.progress)
        self.kept = together.kept
        self.dropped += together.dropped

    def _add_unanswerable(self) -> None:
        from werkmeister.corpus.writing.unanswerable import write_unanswerable

        chosen = self.settings
        made = write_unanswerable(
            self.kept, self.passages, share=chosen.unanswerable, open_book=chosen.open_book, seed=chosen.seed
        )
        if len(made.pairs) < made.wanted:
            self.notes.append(
                f"{len(made.pairs):,} of {made.wanted:,} unanswerable questions could be made: of the others it could "
                "not be proven that their passage lacks the answer"
            )
        self.kept += made.pairs
        self.report["unanswerable"] = {
            "wanted": made.wanted,
            "made": len(made.pairs),
            "same document": made.same_document,
            "sister document": made.sister_document,
        }

    def require_pairs(self) -> None:
        """Nothing left is no success."""
        if any(pair.answerable for pair in self.kept):
            return
        counts = Counter(one.check for one in self.dropped)
        reasons = {one.check: one.reason for one in reversed(self.dropped)}
        if counts:
            raise DataError(
                f"all {sum(counts.values()):,} pairs that were written fell to the checks",
                problems=[
                    f"{check}: {count:,}, such as: {reasons[check]}" for check, count in counts.most_common(_SHOWN)
                ],
                hint="look at the documents' texts, or let another teacher write (write.teacher)",
            )
        words = sum(len(passage.text.split()) for passage in self.chosen)
        raise DataError(
            f"nothing was found to ask about in {len(self.chosen):,} passages ({words:,} words) of "
            f"{len(self.documents):,} documents by {' and '.join(self.settings.writers)}",
            hint="the structural writer needs headings, tables, lists or definitions; a teacher also writes about free "
            'text: set write.writers = ["structural", "teacher"] and write.teacher',
        )

    def finish(self, folder: Path) -> None:
        """Write the files of the artefact."""
        from werkmeister.corpus.writing.families import find_families

        order = {document.name: at for at, (document, _) in enumerate(self.documents)}
        self.kept.sort(key=lambda pair: self._place(pair, order))
        self.dropped.sort(key=lambda one: self._place(one.pair, order))
        families = find_families(self.documents, self.progress)

        def record(pair: Pair) -> dict[str, Any]:
            from werkmeister.corpus.writing.checks import flags_of

            passage = self.passages.get(pair.passage)
            group = families.group(passage) if passage else f"prompt {pair.id}"
            return pair.record() | {"group": group, "flags": flags_of(pair)}

        kept = [record(pair) for pair in self.kept]
        fallen = [record(one.pair) | {"check": one.check, "reason": one.reason} for one in self.dropped]
        write_lines(folder / "pairs.jsonl", kept)
        write_lines(folder / "dropped.jsonl", fallen)
        sizes = Counter(one["group"] for one in kept)
        self.report |= {
            "checks": dict(Counter(one.check for one in self.dropped).most_common()),
            "kinds": dict(Counter(pair.kind for pair in self.kept).most_common()),
            "languages": dict(Counter(pair.language for pair in self.kept).most_common()),
            "flags": dict(Counter(flag for one in kept for flag in one["flags"]).most_common()),
            "families": {"mode": families.mode, "groups": len(sizes), "largest": max(sizes.values(), default=0)},
            "notes": self.notes,
        }
        write_json(folder / "report.json", self.report)

    def _place(self, pair: Pair, order: Mapping[str, int]) -> tuple[int, int, bool, int]:
        passage = self.passages.get(pair.passage)
        return (order.get(pair.document, len(order)), passage.start if passage else 0, not pair.answerable, pair.start)

    def summary(self) -> str:
        """One line for the person."""
        lost = ", ".join(f"{check} {count:,}" for check, count in self.report["checks"].items())
        answerable = sum(pair.answerable for pair in self.kept)
        return (
            f"{self.report['written']:,} pairs written; dropped: {lost or 'none'}; {answerable:,} verified, and "
            f"{len(self.kept) - answerable:,} unanswerable questions"
        )


def _structural(settings: WriteSettings) -> Writer:
    from werkmeister.corpus.writing.structural.writer import StructuralWriter

    return StructuralWriter(forms=settings.forms, language=settings.language, per_passage=settings.per_passage)


def _asker(settings: WriteSettings, policy: PolicySettings, expert: Path, home: Path, progress: Progress) -> Asker:
    from werkmeister.corpus.writing.asking import Asker
    from werkmeister.engines.open import find_engine

    found = find_engine(
        settings.teacher,
        model=settings.teacher_model,
        key_env=settings.key_env,
        policy=policy,
        expert=expert,
        concurrency=settings.concurrency,
        progress=progress,
    )
    return Asker(
        found,
        home,
        concurrency=settings.concurrency,
        budget_tokens=settings.budget_tokens,
        budget_seconds=settings.budget_seconds,
        prices=(settings.prompt_price, settings.answer_price),
        progress=progress,
    )
