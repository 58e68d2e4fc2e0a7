"""Which stages run, and why."""

import json
import shutil
import time
from pathlib import Path

import pytest

from werkmeister.artefact import exclusive
from werkmeister.errors import ArtefactError, BusyError, SettingsError
from werkmeister.pipeline import artefacts_of, build, read_expert, run_stage, stages_of


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of the built expert that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "expert"))


def ran(done) -> dict[str, str]:
    return {one.stage: one.reason for one in done if one.reason}


def test_a_build_makes_every_artefact_and_a_second_one_nothing(built: Path) -> None:
    stages = stages_of(read_expert(built))
    assert stages == ("dataset", "train", "export", "exam"), "without documents nothing is read and nothing written"
    assert all((artefacts_of(built) / stage / "manifest.json").is_file() for stage in stages)
    begin = time.perf_counter()
    again = build(read_expert(built))
    assert ran(again) == {}
    assert time.perf_counter() - begin < 3


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("exam.limit=5", ["exam"]),
        ('export.files=["Q8_0"]', ["export", "exam"]),
        ("train.seed=1", ["train", "export", "exam"]),
        ("dataset.seed=5", ["dataset", "train", "export", "exam"]),
        ("ask.max_tokens=9", []),
    ],
)
def test_a_changed_setting_runs_its_stage_and_those_behind_it_alone(copy: Path, override: str, stages) -> None:
    done = ran(build(read_expert(copy, [override, "train.epochs=6.0"])))
    assert list(done) == stages
    if stages:
        assert override.partition("=")[0] + ":" in done[stages[0]], "the reason names the setting"


def test_changed_examples_are_noticed_and_a_comment_in_the_settings_is_not(copy: Path) -> None:
    toml = copy / "expert.toml"
    toml.write_text(toml.read_text(encoding="utf-8") + "\n# a comment\n", encoding="utf-8")
    assert ran(build(read_expert(copy), upto="dataset")) == {}
    with (copy / "examples.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"prompt": "purple anvil", "completion": "PUR-1"}) + "\n")
    assert "examples.jsonl changed" in ran(build(read_expert(copy), upto="dataset"))["dataset"]


def test_a_stage_alone_refuses_stale_inputs_by_name(copy: Path) -> None:
    with pytest.raises(ArtefactError, match=r"export needs an up-to-date train artefact.*train.seed: 0 → 3"):
        run_stage(read_expert(copy, ["train.seed=3"]), "export")
    shutil.rmtree(artefacts_of(copy) / "train")
    with pytest.raises(ArtefactError, match="never made"):
        run_stage(read_expert(copy), "export")


def test_an_edited_artefact_is_named_and_never_rebuilt_in_silence(copy: Path) -> None:
    with (artefacts_of(copy) / "dataset" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(ArtefactError, match=r"train\.jsonl has SHA-256"):
        build(read_expert(copy))


def test_two_builds_of_one_expert_at_once_the_second_is_refused(copy: Path) -> None:
    with exclusive(artefacts_of(copy)), pytest.raises(BusyError, match="another build"):
        build(read_expert(copy))


@pytest.mark.parametrize("stage", ["documents", "write"])
def test_a_stage_that_the_expert_does_not_need_is_refused_with_the_setting_to_make(built: Path, stage: str) -> None:
    with pytest.raises(SettingsError, match="nothing for " + stage) as caught:
        run_stage(read_expert(built), stage)
    assert "[documents] files" in caught.value.hint


def test_a_moved_expert_is_still_up_to_date(copy: Path, tmp_path: Path) -> None:
    moved = copy.rename(tmp_path / "elsewhere")
    assert ran(build(read_expert(moved))) == {}
