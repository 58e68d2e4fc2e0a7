"""Artefact folders: complete or absent, checked by hash, resumable."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from werkmeister.artefact import exclusive, exists, making, open_artefact, read_manifest, stage_key
from werkmeister.errors import ArtefactError, BusyError, MachineError


def make(path: Path, text: str = "hello", **settings: object) -> None:
    with making("toy", path, version=1, inputs={"a": "1"}, settings=settings) as draft:
        (draft.path / "data.txt").write_text(text, encoding="utf-8")
        (draft.scratch / "checkpoint").write_text("half", encoding="utf-8")
        draft.facts["text"] = text
        draft.measures["seconds"] = 1


def test_an_artefact_holds_what_was_written_and_its_manifest_says_how(tmp_path: Path) -> None:
    make(tmp_path / "toy", rank=8)
    opened = open_artefact(tmp_path / "toy", "toy")
    assert opened.file("data.txt").read_text(encoding="utf-8") == "hello"
    assert opened.settings == {"rank": 8}
    assert opened.key == stage_key("toy", 1, {"a": "1"}, {"rank": 8})
    assert list(opened.outputs) == ["data.txt"]
    assert set(opened.manifest) >= {"made", "code", "packages", "format", "version"}
    assert not list(tmp_path.glob("*.partial"))


def test_an_error_leaves_the_old_artefact_and_a_partial_folder_that_the_next_run_takes_up(tmp_path: Path) -> None:
    make(tmp_path / "toy", "old")
    with pytest.raises(ZeroDivisionError), making("toy", tmp_path / "toy", version=2, inputs={}, settings={}) as draft:
        (draft.scratch / "checkpoint").write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert open_artefact(tmp_path / "toy", "toy").facts["text"] == "old"
    with making("toy", tmp_path / "toy", version=2, inputs={}, settings={}) as draft:
        assert draft.resumed
        assert (draft.scratch / "checkpoint").read_text(encoding="utf-8") == "half"
    assert open_artefact(tmp_path / "toy", "toy").outputs == {}


def test_a_partial_folder_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), making("toy", tmp_path / "toy", version=1, inputs={}, settings={"a": 1}):
        raise ZeroDivisionError
    with making("toy", tmp_path / "toy", version=1, inputs={}, settings={"a": 2}) as draft:
        assert not draft.resumed


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: (path / "data.txt").write_text("hacked", encoding="utf-8"), "data.txt has SHA-256"),
        (lambda path: (path / "data.txt").unlink(), "data.txt is missing"),
    ],
)
def test_a_file_edited_by_hand_is_named(tmp_path: Path, damage, said: str) -> None:
    make(tmp_path / "toy")
    open_artefact(tmp_path / "toy", "toy")  # The check is remembered, and must notice all the same.
    damage(tmp_path / "toy")
    with pytest.raises(ArtefactError) as caught:
        open_artefact(tmp_path / "toy", "toy")
    assert said in str(caught.value)
    assert "delete the folder" in caught.value.hint


def test_a_manifest_edited_by_hand_is_named(tmp_path: Path) -> None:
    make(tmp_path / "toy")
    file = tmp_path / "toy" / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["facts"]["text"] = "better"
    file.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtefactError, match="was changed after it was written"):
        open_artefact(tmp_path / "toy", "toy")


def test_a_manifest_that_cannot_be_read_is_not_advised_to_be_deleted(tmp_path: Path, monkeypatch) -> None:
    make(tmp_path / "toy")

    def refused(self: Path, *args: object, **given: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(ArtefactError, match="you may not read") as caught:
        read_manifest(tmp_path / "toy")
    assert "chmod" in caught.value.hint and "delete" not in caught.value.hint


def test_missing_truncated_or_of_another_kind_each_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="there is no artefact"):
        open_artefact(tmp_path / "none", "toy")
    make(tmp_path / "toy")
    with pytest.raises(ArtefactError, match="holds a toy artefact"):
        open_artefact(tmp_path / "toy", "train")
    (tmp_path / "toy" / "manifest.json").write_text('{"kind": "toy', encoding="utf-8")
    with pytest.raises(ArtefactError, match="is no JSON any more"):
        open_artefact(tmp_path / "toy", "toy")


def test_the_identity_depends_on_facts_and_files_and_not_on_reports(tmp_path: Path) -> None:
    identities = []
    for text, report in (("a", "x"), ("a", "y"), ("b", "x")):
        with making("toy", tmp_path / "toy", version=1, inputs={}, settings={}) as draft:
            (draft.path / "data.txt").write_text(text, encoding="utf-8")
            (draft.path / "report.html").write_text(report, encoding="utf-8")
        identities.append(open_artefact(tmp_path / "toy", "toy").identity)
    assert identities[0] == identities[1] != identities[2]


def test_a_replacement_cut_off_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    make(tmp_path / "toy", "old")
    (tmp_path / "toy").rename(tmp_path / "toy.replaced")
    assert exists(tmp_path / "toy")
    assert open_artefact(tmp_path / "toy", "toy").facts["text"] == "old"


def test_a_full_disk_is_told_and_the_old_artefact_stays(tmp_path: Path) -> None:
    make(tmp_path / "toy", "old")
    with (
        pytest.raises(MachineError, match="disk is full"),
        making("toy", tmp_path / "toy", version=2, inputs={}, settings={}) as draft,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(draft.path / "big"))
    assert open_artefact(tmp_path / "toy", "toy").facts["text"] == "old"


def test_a_really_full_disk_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(MachineError, match="disk is full"),
        making("toy", tmp_path / "toy", version=1, inputs={}, settings={}) as draft,
        Path("/dev/full").open("w") as full,
    ):
        (draft.path / "data.txt").write_text("x", encoding="utf-8")
        full.write("x" * 100_000)


def test_a_file_where_a_folder_is_needed_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(MachineError, match="stands where a folder is needed"):
        make(tmp_path / "file" / "toy")


def test_two_at_once_the_second_is_refused_and_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from werkmeister.artefact import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=str(holder.pid)), exclusive(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with exclusive(tmp_path):
        pass
