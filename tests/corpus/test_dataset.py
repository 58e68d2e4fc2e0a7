import json
import re
import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.checkpoints import CONTEXT, SYSTEM, tiny_base
from tests.heard import Heard
from werkmeister.artefact import exists, stage_key
from werkmeister.bases.base import Base
from werkmeister.chat import read_examples
from werkmeister.config import as_json, read_settings
from werkmeister.corpus.dataset import VERSION, DatasetSettings, dataset, dataset_inputs
from werkmeister.corpus.hub import HubName, parse_hub_name
from werkmeister.corpus.report import percentile
from werkmeister.errors import DataError, SettingsError
from werkmeister.progress import Silent

COLOURS = ("red", "green", "blue", "black")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base") / "tiny")


def rows(count: int = 40) -> list[dict]:
    return [
        {"prompt": f"Which code has {COLOURS[i % 4]} number {i}?", "completion": f"C{i}", "label": COLOURS[i % 4]}
        for i in range(count)
    ]


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def run(expert: Path, base: Base, *, system: str = "", progress=None, **given):
    settings = DatasetSettings(**given)
    output = expert / "artefacts" / "dataset"
    return dataset(expert, output, settings, base=base, system=system, progress=progress or Silent())


def report(artefact) -> dict:
    return json.loads(artefact.file("report.json").read_text(encoding="utf-8"))


def test_the_artefact_holds_the_splits_with_the_system_message_and_the_facts_later_stages_read(tmp_path, base):
    write(tmp_path / "examples.jsonl", rows())
    made = run(tmp_path, base, system=SYSTEM, valid=0.1, exam=0.2)
    splits = {name: list(read_examples(made.file(f"{name}.jsonl"))) for name in ("train", "valid", "exam")}
    assert made.facts["splits"] == {name: {"examples": len(examples)} for name, examples in splits.items()}
    assert sum(len(examples) for examples in splits.values()) == 40
    assert all(e.prompt[0].content == SYSTEM for examples in splits.values() for e in examples)
    assert made.facts["base"] == {"name": "tiny", "identity": base.identity, "context_length": CONTEXT}
    assert made.facts["system"] == SYSTEM
    assert made.facts["labels"] == sorted(COLOURS)
    assert made.facts["parts"] == []
    from werkmeister.bases.tokens import count_tokens, load_tokenizer

    counts = count_tokens(load_tokenizer(base), [e for examples in splits.values() for e in examples])
    assert made.facts["longest_tokens"] == max(counts)


def test_the_same_files_and_settings_give_the_same_identity(tmp_path, base):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "examples.jsonl", rows())
    assert run(tmp_path / "a", base).identity == run(tmp_path / "b", base).identity
    assert run(tmp_path / "a", base).identity != run(tmp_path / "b", base, seed=3).identity


def test_the_funnel_adds_up_and_every_drop_is_listed_with_its_source(tmp_path, base):
    given = rows()
    given[0] |= {"split": "exam", "part": "p"}
    extra = [
        given[1],
        {**given[2], "completion": "other"},
        {**given[3], "prompt": given[3]["prompt"].upper()},
        {**given[0], "split": "train", "part": ""},
        {"prompt": "long " * 600, "completion": "x", "label": "red"},
    ]
    write(tmp_path / "examples.jsonl", given + extra)
    made = run(tmp_path, base, valid=0.1)
    told = report(made)
    assert [(row["step"], row["dropped"], row["left"]) for row in told["funnel"]] == [
        ("read", 0, 45),
        ("exact duplicate", 1, 44),
        ("conflicting answer", 1, 43),
        ("near duplicate", 1, 42),
        ("leakage", 1, 41),
        ("too long", 1, 40),
    ]
    dropped = {one["source"]: (one["reason"], one.get("kept")) for one in told["dropped"]}
    assert dropped == {
        "examples.jsonl:41": ("exact duplicate", "examples.jsonl:2"),
        "examples.jsonl:42": ("conflicting answer", "examples.jsonl:3"),
        "examples.jsonl:43": ("near duplicate", "examples.jsonl:4"),
        "examples.jsonl:44": ("leakage", "examples.jsonl:1"),
        "examples.jsonl:45": ("too long", None),
    }
    assert next(one for one in told["dropped"] if one["reason"] == "too long")["tokens"] > CONTEXT
    assert made.facts["parts"] == ["p"]
    assert told["splits"]["exam"] == {"examples": 1}


def test_a_length_of_its_own_binds_before_the_context(tmp_path, base):
    write(tmp_path / "examples.jsonl", [*rows(), {"prompt": "long " * 100, "completion": "x"}])
    assert report(run(tmp_path, base))["funnel"][-1]["dropped"] == 0
    assert report(run(tmp_path, base, max_length=100))["funnel"][-1]["dropped"] == 1


def test_the_page_stands_alone_escapes_and_shows_what_was_dropped(tmp_path, base):
    write(tmp_path / "examples.jsonl", [*rows(), {"prompt": "<script>alert(1)</script>", "completion": "a"}] * 2)
    page = run(tmp_path, base).file("report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "exact duplicate: 41" in page
    assert re.findall(r"(?:src|href)=|url\(", page) == []
    assert "<svg" in page
    assert "prefers-color-scheme" in page


def test_mistakes_of_all_files_are_told_at_once_and_nothing_is_made(tmp_path, base):
    write(tmp_path / "a.jsonl", [{"prompt": "x"}])
    (tmp_path / "b.csv").write_text("question,answer\nx,\n")
    with pytest.raises(DataError) as caught:
        run(tmp_path, base, files=("a.jsonl", "b.csv", "none.jsonl"))
    assert caught.value.problems == (
        "a.jsonl:1: columns prompt fit no known shape",
        "b.csv:2: answer is empty",
        f"none.jsonl: no such file in {tmp_path}",
    )
    assert caught.value.exit_code == 2
    assert not exists(tmp_path / "artefacts" / "dataset")


def test_patterns_name_several_files_in_order(tmp_path, base):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "b.jsonl", rows(20)[10:])
    write(tmp_path / "data" / "a.jsonl", rows(10))
    sources = report(run(tmp_path, base, files=("data/*.jsonl",)))["sources"]
    assert [(source["name"], source["examples"]) for source in sources] == [("data/a.jsonl", 10), ("data/b.jsonl", 10)]


def test_an_absolute_pattern_is_followed(tmp_path, base):
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "a.jsonl", rows(12))
    sources = report(run(tmp_path, base, files=(str(tmp_path / "elsewhere" / "*.jsonl"),)))["sources"]
    assert [source["name"] for source in sources] == [str(tmp_path / "elsewhere" / "a.jsonl")]


def test_an_example_keeps_its_own_system_message_and_this_is_said(tmp_path, base):
    write(tmp_path / "examples.jsonl", [{**row, "system": "Mine."} for row in rows(5)] + rows(20)[5:])
    progress = Heard()
    made = run(tmp_path, base, system="Theirs.", progress=progress)
    systems = [
        e.prompt[0].content for name in ("train", "valid", "exam") for e in read_examples(made.file(f"{name}.jsonl"))
    ]
    assert sorted(systems) == ["Mine."] * 5 + ["Theirs."] * 15
    assert "5 examples bring their own system message, which was kept" in progress.said


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("org/name", HubName(id="org/name")),
        ("org/name:test", HubName(id="org/name", split="test")),
        ("org/name:train[:100]", HubName(id="org/name", split="train[:100]")),
        ("org/name:main", HubName(id="org/name", config="main")),
        ("org/name@v1.0:main:train_sft", HubName(id="org/name", revision="v1.0", config="main", split="train_sft")),
        ("data/examples.jsonl", None),
        ("./data/examples", None),
        ("examples", None),
    ],
)
def test_names_of_hub_data_sets_are_told_from_files(text, named):
    assert parse_hub_name(text) == named


def test_files_that_name_one_split_alone_are_divided_and_this_is_said(tmp_path, base):
    write(tmp_path / "examples.jsonl", [{**row, "split": "test"} for row in rows()])
    progress = Heard()
    made = run(tmp_path, base, progress=progress)
    assert all(split["examples"] for split in made.facts["splits"].values())
    assert "every example says split = exam, so the splits are cut afresh" in progress.said


def test_columns_that_are_not_used_are_said(tmp_path, base):
    write(tmp_path / "examples.jsonl", [{**row, "id": 1, "url": "x"} for row in rows()])
    progress = Heard()
    run(tmp_path, base, progress=progress)
    assert "examples.jsonl: columns not used: id, url" in progress.said


def test_percentiles_are_of_the_nearest_rank():
    counts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]
    assert percentile(counts, 0.5) == statistics.median_low(counts)
    assert percentile(counts, 0.95) == 100
    assert percentile([7], 0.95) == 7
    assert percentile([], 0.5) == 0


SCRIPT = """
import json, pathlib, sys
from words import COLOURS
folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("making", count)
with (folder / "made.jsonl").open("w") as file:
    for i in range(count):
        file.write(json.dumps({"prompt": f"What is {COLOURS[i % 2]} thing {i}?", "completion": f"C{i}"}) + "\\n")
"""


def scripted(folder: Path, script: str = SCRIPT) -> dict:
    (folder / "make.py").write_text(script)
    (folder / "words.py").write_text("COLOURS = ('red', 'blue')")
    return {"script": "make.py", "script_args": ("30",), "files": ("made.jsonl",)}


def test_a_script_makes_the_files_and_what_it_prints_is_said(tmp_path, base):
    progress = Heard()
    made = run(tmp_path, base, progress=progress, **scripted(tmp_path))
    assert sum(split["examples"] for split in made.facts["splits"].values()) == 30
    assert "making 30" in progress.said
    assert report(made)["sources"][0]["name"] == "made.jsonl"
    assert sorted(path.name for path in made.path.iterdir()) == [
        *("exam.jsonl", "manifest.json", "report.html", "report.json", "train.jsonl", "valid.jsonl"),
    ]


def test_a_file_of_the_script_comes_before_one_of_the_folder(tmp_path, base):
    write(tmp_path / "made.jsonl", rows(12))
    write(tmp_path / "own.jsonl", rows(12))
    given = scripted(tmp_path) | {"files": ("made.jsonl", "own.jsonl")}
    assert [source["examples"] for source in report(run(tmp_path, base, **given))["sources"]] == [30, 12]


@pytest.mark.parametrize(
    ("script", "said", "hint"),
    [
        ("import sys\nprint('half', file=sys.stderr)\nsys.exit(3)", "half", "mend"),
        ("import hassil_that_is_not_there", "No module named", "pip install 'werkmeister[examples]'"),
        ("x = 1", "wrote nothing", "must write its files into OUTPUT_FOLDER"),
    ],
)
def test_a_script_that_fails_is_shown_with_its_last_words(tmp_path, base, script, said, hint):
    with pytest.raises(DataError) as caught:
        run(tmp_path, base, **scripted(tmp_path, script))
    assert said in str(caught.value)
    assert hint in caught.value.hint


def test_a_script_that_is_not_there_is_named(tmp_path, base):
    with pytest.raises(DataError, match=r"there is no script .*make\.py"):
        run(tmp_path, base, script="make.py")


def key(folder: Path, base: Base, system: str = "", **given) -> str:
    settings = DatasetSettings(**given)
    inputs = dataset_inputs(folder, settings, base, system)
    return stage_key("dataset", VERSION, inputs, as_json(settings))


def test_what_decides_the_dataset_makes_it_stale_and_nothing_else_does(tmp_path, base):
    given = scripted(tmp_path) | {"script_packages": ("jinja2", "no-such-package")}
    first = key(tmp_path, base, **given)
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "expert.toml").write_text("[expert]")
    (tmp_path / "artefacts").mkdir()
    (tmp_path / "artefacts" / "x.json").write_text("{}")
    assert key(tmp_path, base, **given) == first
    (tmp_path / "words.py").write_text("COLOURS = ('red', 'green')")
    second = key(tmp_path, base, **given)
    (tmp_path / "made.jsonl").write_text("{}")
    third = key(tmp_path, base, **given)
    keys = [first, second, third, key(tmp_path, base, "be kind", **given), key(tmp_path, base, seed=1, **given)]
    keys.append(key(tmp_path, base, **{**given, "script_args": ("31",)}))
    keys.append(key(tmp_path, base, **{**given, "script_packages": ()}))
    assert len(set(keys)) == len(keys)


def test_a_folder_in_the_hubs_layout_is_read_through_datasets_with_its_splits_and_class_names(tmp_path, base):
    import datasets

    names = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    folder = tmp_path / "data"
    folder.mkdir()
    for split, count in (("train", 20), ("test", 8)):
        values = {"text": [f"{split} sentence {i}" for i in range(count)], "label": [i % 2 for i in range(count)]}
        datasets.Dataset.from_dict(values, features=names).to_parquet(folder / f"{split}.parquet")
    made = run(tmp_path, base, files=("data",), valid=0.1)
    assert made.facts["splits"]["exam"] == {"examples": 8}
    assert made.facts["splits"]["train"]["examples"] + made.facts["splits"]["valid"]["examples"] == 20
    assert made.facts["labels"] == ["no", "yes"]
    assert next(read_examples(made.file("exam.jsonl"))).source == "data:test:1"


def test_a_hub_data_set_that_is_out_of_reach_offline_is_named_with_the_next_step(tmp_path):
    # In a process of its own: the hub's libraries read the variable when they are imported.
    import subprocess

    code = """if True:
        from pathlib import Path
        from werkmeister.corpus.findings import Findings
        from werkmeister.corpus.hub import collect_hub, parse_hub_name
        from werkmeister.progress import Silent
        findings = Findings()
        assert collect_hub(parse_hub_name("org/none:train"), None, findings, Silent()) == []
        findings.fail("files")
    """
    begin = time.perf_counter()
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "org/none: cannot be loaded" in done.stderr
    assert "HF_HUB_OFFLINE is set and org/none is not in the cache" in done.stderr
    assert time.perf_counter() - begin < 30


def test_settings_refuse_shares_that_leave_too_little_for_train_and_name_a_typo(tmp_path):
    (tmp_path / "expert.toml").write_text("[dataset]\nvalid = 0.5\nexam = 0.5\nnear_duplicates = 1\n")
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path, {"dataset": DatasetSettings})
    assert "did you mean 'near_duplicate'?" in str(caught.value)
    with pytest.raises(ValueError, match="leave too little for train"):
        DatasetSettings(valid=0.5, exam=0.5)


def test_the_settings_import_in_milliseconds_and_load_nothing_heavy():
    import subprocess

    code = (
        "import sys, werkmeister.corpus.dataset as d; d.DatasetSettings();"
        "print([m for m in ('torch','datasets','pyarrow','jinja2','rensa','numpy','transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
