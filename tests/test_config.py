"""expert.toml: read strictly, all mistakes at once, with line and nearest key."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from werkmeister.config import as_json, read_settings, reference, setting
from werkmeister.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Tune:
    """A table for the tests."""

    base: str = setting(help="which one")
    rank: int = setting(16, help="rank", low=1, high=64)
    rate: float = setting(1e-4, help="speed", unit="per step")
    targets: tuple[str, ...] = setting(("q",), help="layers")
    mode: str = setting("auto", help="how", choices=("auto", "fast"))
    deep: bool = setting(False, help="depth")


DECLARED = {"tune": Tune}


def read(folder: Path, text: str, *overrides: str) -> Tune:
    (folder / "expert.toml").write_text(text, encoding="utf-8")
    return read_settings(folder, DECLARED, overrides).table("tune")


def test_values_and_defaults(tmp_path: Path) -> None:
    tune = read(tmp_path, '[tune]\nbase = "x"\nrate = 1\ntargets = ["a", "b"]\n')
    assert tune == Tune(base="x", rate=1.0, targets=("a", "b"))
    assert as_json(tune)["targets"] == ["a", "b"]


def test_all_mistakes_at_once_with_line_and_nearest_key(tmp_path: Path) -> None:
    text = '[tune]\nrnak = 8\nrank = 0\nrate = "fast"\nmode = "fsat"\ndeep = 1\n\n[tuen]\nbase = "x"\n'
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    problems = "\n".join(caught.value.problems)
    for expected in (
        "expert.toml:2: unknown key 'rnak' in [tune]; did you mean 'rank'?",
        "expert.toml:3: tune.rank = 0 must be at least 1",
        "expert.toml:4: tune.rate = 'fast' must be a number",
        "expert.toml:5: tune.mode = 'fsat' must be one of auto, fast; did you mean 'fast'?",
        "expert.toml:6: tune.deep = 1 must be true or false",
        "expert.toml:8: unknown table [tuen]; did you mean 'tune'?",
        "tune.base is missing (which one)",
    ):
        assert expected in problems
    assert len(caught.value.problems) == 7


def test_overrides_win_and_wrong_ones_are_named(tmp_path: Path) -> None:
    text = '[tune]\nbase = "x"\nrank = 8\n'
    tune = read(tmp_path, text, "tune.rank=4", "tune.mode=fast", 'tune.targets=["k", "v"]', "tune.base=a b")
    assert (tune.rank, tune.mode, tune.targets, tune.base) == (4, "fast", ("k", "v"), "a b")
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, "tune.rnak=4", "rank=4", "tune.rank=many")
    problems = "\n".join(caught.value.problems)
    assert "--set: unknown key 'rnak'" in problems
    assert "--set 'rank=4' is not of the form table.key=value" in problems
    assert "tune.rank = 'many' must be a whole number" in problems


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[tune]\nbase = 'x'\nbase = 'y'\n", "not valid TOML"),
        (b"[tune\n", "not valid TOML"),
        (b"[tune]\nbase = '\xff'\n", "not UTF-8"),
    ],
    ids=["duplicate key", "broken table", "not UTF-8"],
)
def test_a_broken_file_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "expert.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        read_settings(tmp_path, DECLARED)


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path, DECLARED)
    assert "werkmeister new" in caught.value.hint


@given(st.text(max_size=200))
def test_any_text_gives_settings_or_a_settings_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "expert.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        read_settings(folder, DECLARED)
    except SettingsError as error:
        assert str(error)


def test_the_reference_names_every_key_with_default_and_meaning() -> None:
    page = reference(DECLARED)
    assert "| `rank` | `16` | rank |" in page
    assert "| `base` | (required) | which one |" in page
    assert "one of `auto`, `fast`" in page
