"""The stage dataset where the examples come from documents: shares, splits, decisions, contamination."""

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.checkpoints import CONTEXT, tiny_base
from tests.manuals import write_manual, write_manuals
from werkmeister.bases.base import Base
from werkmeister.chat import read_examples
from werkmeister.corpus.dataset import DatasetSettings, dataset, dataset_inputs
from werkmeister.corpus.decisions import DROP, EDIT, append_decisions, decide
from werkmeister.corpus.documents.stage import DocumentsSettings, documents
from werkmeister.corpus.writing.stage import WriteSettings, write
from werkmeister.errors import DataError
from werkmeister.governing.policy import PolicySettings
from werkmeister.grounding import open_book, read_open_book, refusal
from werkmeister.passage import read_passages
from werkmeister.progress import Silent

SPLITS = ("train", "valid", "exam")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny", context_length=2 * CONTEXT)


def make(expert: Path, base: Base, **given) -> None:
    """The artefacts documents and write."""
    home = expert / "artefacts"
    files = DocumentsSettings(files=("manuals",), passage_tokens=220, overlap=0)
    documents(expert, home / "documents", files, base=base, home=home, progress=Silent())
    where = {"expert": expert, "policy": PolicySettings(), "home": home, "progress": Silent()}
    write(home / "documents", home / "write", WriteSettings(**given), **where)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory, base) -> Path:
    expert = tmp_path_factory.mktemp("documents") / "expert"
    write_manuals(expert / "manuals", 24)
    for number in range(24, 28):
        write_manual(expert / "manuals", number, like=number - 24)
    make(expert, base, open_book=0.7, unanswerable=0.25)
    return expert


@pytest.fixture
def expert(made_once, tmp_path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "expert"))


def run(expert: Path, base: Base, *, system="", estimate=None, **given):
    home = expert / "artefacts"
    return dataset(
        expert,
        home / "dataset",
        DatasetSettings(**{"valid": 0.1, "exam": 0.2} | given),
        **{"base": base, "system": system, "progress": Silent(), "estimate": estimate},
        documents=home / "documents",
        written=home / "write",
    )


def splits_of(made) -> dict[str, list]:
    return {name: list(read_examples(made.file(f"{name}.jsonl"))) for name in SPLITS}


def pairs_of(expert: Path) -> list[dict]:
    return [json.loads(line) for line in (expert / "artefacts" / "write" / "pairs.jsonl").open()]


def test_every_example_is_a_verified_pair_in_the_form_in_which_the_expert_is_asked(expert, base):
    splits = splits_of(run(expert, base))
    passages = {p.id: p for p in read_passages(expert / "artefacts" / "documents" / "passages.jsonl")}
    pairs = {(pair[form], pair["passage"]): pair for pair in pairs_of(expert) for form in ("loose", "question")}
    parts = Counter()
    for name, examples in splits.items():
        for example in examples:
            question = read_open_book(example.question)[1]
            pair, passage = pairs[question, example.passage], passages[example.passage]
            assert example.target == pair["answer"]
            assert example.evidence == pair["evidence"]
            assert example.source == passage.place
            assert example.group == pair["group"]
            served = [] if example.part == "from memory" else [passage]
            assert example.question == open_book(question, served, "en")
            assert (example.part == "unanswerable") == (example.target == refusal("en"))
            parts[name, example.part] += 1
    train = parts["train", "with passage"] + parts["train", "from memory"]
    assert parts["train", "from memory"] / train == pytest.approx(0.3, abs=0.08)
    assert parts["valid", "from memory"] == parts["exam", "from memory"] == 0
    assert all(parts[name, "unanswerable"] for name in SPLITS)


def test_families_never_part_and_contamination_is_measured_as_zero(expert, base):
    made = run(expert, base)
    homes = defaultdict(set)
    for name, examples in splits_of(made).items():
        for example in examples:
            homes[example.group].add(name)
    assert all(len(names) == 1 for names in homes.values())
    assert len(homes) == 24, "the four variants have joined their families"
    rows = made.measures["contamination"]
    assert [row["n"] for row in rows] == [0, 0, 0]
    assert all(row["of"] == made.facts["splits"]["exam"]["examples"] for row in rows)


def test_a_persons_decisions_decide_and_survive_a_new_writing(expert, base):
    first, second, third = [pair for pair in pairs_of(expert) if pair["answerable"]][:3]
    before = dataset_inputs(expert, DatasetSettings(), base, "", written=True)
    append_decisions(
        expert,
        [
            decide(first, DROP),
            decide(second, EDIT, question="Is it changed by hand?", answer="Yes, by hand."),
            decide(third, EDIT, question=third["question"], answer=refusal("en")),
        ],
    )
    assert dataset_inputs(expert, DatasetSettings(), base, "", written=True) != before
    for again in (False, True):
        if again:
            make(expert, base, open_book=0.7, unanswerable=0.25, seed=3)
        made = run(expert, base)
        asked = {(read_open_book(e.question)[1], e.passage): e for own in splits_of(made).values() for e in own}
        assert (first["question"], first["passage"]) not in asked
        assert (second["question"], second["passage"]) not in asked
        assert asked["Is it changed by hand?", second["passage"]].target == "Yes, by hand."
        assert asked[third["question"], third["passage"]].part == "unanswerable"
        assert made.measures["decisions"]["edit"] == 2
        assert made.measures["decisions"]["drop"] == 1


def test_an_edited_answer_that_its_passage_does_not_support_is_kept_and_told(expert, base):
    first, second = [pair for pair in pairs_of(expert) if pair["answerable"]][:2]
    edits = [decide(first, EDIT, question="How warm may it get?", answer="Up to 4711 °C.")]
    edits.append(decide(second, EDIT, question="Who may do it?", answer="Anybody."))
    append_decisions(expert, edits)
    made = run(expert, base)
    assert any(example.target == "Up to 4711 °C." for own in splits_of(made).values() for example in own)
    notes = json.loads(made.file("report.json").read_text(encoding="utf-8"))["notes"]
    doubts = [note for note in notes if "is kept, though its passage does not say" in note]
    assert len(doubts) == 1
    assert "'How warm may it get?'" in doubts[0]
    assert "4711, °c" in doubts[0]


def test_example_files_are_taken_beside_the_pairs_and_need_not_be_there(expert, base):
    alone = run(expert, base)
    total = sum(split["examples"] for split in alone.facts["splits"].values())
    rows = [{"prompt": f"Where is shelf {n}?", "completion": f"In hall {n % 7}."} for n in range(30)]
    (expert / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = run(expert, base)
    own = [e for examples in splits_of(both).values() for e in examples if not e.passage]
    assert len(own) == 30
    assert sum(split["examples"] for split in both.facts["splits"].values()) == total + 30
    with pytest.raises(DataError, match="no such file"):
        run(expert, base, files=("others.jsonl",))


def test_files_that_give_their_own_exam_leave_the_pairs_one_of_theirs(expert, base):
    rows = [{"prompt": f"Where is shelf {n}?", "completion": f"Hall {n}.", "split": "exam"} for n in range(3)]
    rows += [{"prompt": f"Who keeps tool {n}?", "completion": f"Team {n}.", "split": "train"} for n in range(20)]
    (expert / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exam = splits_of(run(expert, base))["exam"]
    assert sum(not example.passage for example in exam) == 3
    assert sum(bool(example.passage) for example in exam) > 10


def test_pairs_give_no_exam_where_files_bring_one_and_the_share_is_zero(expert, base):
    rows = [{"prompt": f"Where is shelf {n}?", "completion": f"Hall {n}.", "split": "exam"} for n in range(12)]
    (expert / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = splits_of(run(expert, base, exam=0))
    assert len(splits["exam"]) == 12 and not any(example.passage for example in splits["exam"])
    assert any(example.passage for example in splits["valid"])


def test_a_share_of_zero_is_told_where_the_split_would_be_empty(expert, base):
    made = run(expert, base, exam=0, valid=0)
    splits = splits_of(made)
    assert all(len({example.group for example in splits[name]}) == 1 for name in ("valid", "exam"))
    notes = json.loads(made.file("report.json").read_text())["notes"]
    told = [note for note in notes if "no split may be empty" in note]
    assert len(told) == 2 and f"{len(splits['exam'])} example" in " ".join(told)
    assert not any(
        "no split may be empty" in note
        for note in json.loads(run(expert, base).file("report.json").read_text())["notes"]
    )


def test_an_exam_that_cannot_ask_what_train_teaches_says_so(expert, base):
    """The smallest exam is one family, and the unanswerable questions of this one fell to a person's decisions."""
    pairs = [json.loads(line) for line in (expert / "artefacts" / "write" / "pairs.jsonl").open(encoding="utf-8")]
    exam = {example.group for example in splits_of(run(expert, base, exam=0.05))["exam"]}
    append_decisions(expert, [decide(p, DROP) for p in pairs if p["group"] in exam and not p["answerable"]])
    made = run(expert, base, exam=0.05)
    splits = splits_of(made)
    assert not any(example.part == "unanswerable" for example in splits["exam"])
    count = sum(example.part == "unanswerable" for example in splits["train"])
    notes = json.loads(made.file("report.json").read_text())["notes"]
    told = [note for note in notes if "whether the expert abstains" in note]
    assert len(told) == 1 and f"train has {count}" in told[0]
    (expert / "decisions.jsonl").unlink()
    whole = json.loads(run(expert, base, exam=0.3).file("report.json").read_text())["notes"]
    assert not any("the exam has no question" in note for note in whole)


def test_questions_of_ones_own_for_the_exam_keep_their_documents_and_variants_of_them_out_of_train(expert, base):
    """Every row says exam: that is no reason to cut them afresh, since the pairs fill train."""
    passages = list(read_passages(expert / "artefacts" / "documents" / "passages.jsonl"))
    rows = []
    for name in ("manuals/norvex-024.md", "manuals/norvex-009.md"):
        own = next(passage for passage in passages if passage.document == name)
        prompt = open_book("And how heavy is the thing?", [own])
        rows.append({"prompt": prompt, "completion": "Rather heavy.", "split": "exam", "part": "own", "group": name})
    (expert / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = run(expert, base, files=("own.jsonl",))
    splits = splits_of(made)
    assert [example.target for example in splits["exam"] if example.part == "own"] == ["Rather heavy."] * 2
    groups = {name: {example.group for example in examples} for name, examples in splits.items()}
    # Number 24 is a variant of number 0, whose name their family bears.
    held = {"manuals/norvex-000.md", "manuals/norvex-009.md"}
    assert held <= groups["exam"]
    assert not held & (groups["train"] | groups["valid"])
    assert len(groups["exam"]) > len(held) + 2, "an exam is cut from the other documents too"
    assert len(groups["train"]) > 10
    rows = made.measures["contamination"]
    assert [row["n"] for row in rows] == [0, 0, 0]
    assert rows[1]["of"] == len(splits["exam"]), "the passages in a person's own prompts count too"


def test_a_few_pairs_beside_files_with_all_splits_go_to_train(expert, base):
    rows = [
        {"prompt": f"Where is shelf {n}?", "completion": f"Hall {n}.", "split": ("train", "valid", "exam")[n % 3]}
        for n in range(12)
    ]
    (expert / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    append_decisions(expert, [decide(pair, DROP) for pair in pairs_of(expert)[4:]])
    splits = splits_of(run(expert, base, files=("own.jsonl",)))
    assert {name: sum(bool(e.passage) for e in own) for name, own in splits.items()} == {
        "train": 4,
        "valid": 0,
        "exam": 0,
    }


def test_a_persons_answer_is_kept_before_a_written_one(tmp_path, base):
    """A distilled prompt and an example of a person with the same question: the person knows better."""
    from werkmeister.chat import Example, conversation
    from werkmeister.corpus.duplicates import drop_exact
    from werkmeister.corpus.shapes import Given

    ask = conversation("Mill does not start")
    written = [Given(Example(prompt=ask, target="Look at the fuse."), written=True)] * 2
    own = Given(Example(prompt=ask, target="Call Ann."))
    assert drop_exact([*written, own])[0] == [own]


def test_what_is_too_long_with_its_passage_is_dropped_and_listed(expert, base):
    whole = run(expert, base)
    made = run(expert, base, max_length=200)
    report = json.loads(made.file("report.json").read_text(encoding="utf-8"))
    assert report["dropped_counts"]["too long"] > 0
    assert made.facts["longest_tokens"] <= 200 < whole.facts["longest_tokens"]


def test_a_split_that_nothing_is_short_enough_for_is_an_error(expert, base):
    with pytest.raises(DataError, match="are longer than 5 tokens") as told:
        run(expert, base, max_length=5)
    assert "dataset.max_length" in told.value.hint


def test_the_system_message_stands_in_front_and_the_estimate_is_asked_for_what_train_holds(expert, base):
    asked = []

    def estimate(tokens: int, longest: int, learnt: float, examples: int) -> float:
        asked.append((tokens, longest, learnt, examples))
        return 61.0

    made = run(expert, base, system="Answer from the manual.", estimate=estimate)
    example = splits_of(made)["exam"][0]
    assert example.prompt[0].content == "Answer from the manual."
    ((tokens, longest, learnt, examples),) = asked
    assert examples == made.facts["splits"]["train"]["examples"]
    assert tokens == made.measures["tokens"]["train"]["total"]
    assert longest == made.facts["longest_tokens"]
    assert 0 < learnt < 0.5
    report = json.loads(made.file("report.json").read_text(encoding="utf-8"))
    assert report["training_seconds"] == 61.0


def test_distractors_come_with_the_passage(expert, base):
    make(expert, base, distractors=2)
    for example in splits_of(run(expert, base))["exam"]:
        assert read_open_book(example.question)[0].count("Norvex M") >= 3


def test_the_same_artefacts_give_the_same_dataset(expert, base):
    first = run(expert, base)
    assert run(expert, base).identity == first.identity
    assert run(expert, base, seed=5).identity != first.identity
