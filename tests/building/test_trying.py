"""A base asked before anything is trained, held as training would hold it."""

from pathlib import Path

from tests.checkpoints import tiny_expert
from werkmeister.building.trying import open_as_trained
from werkmeister.chat import Message
from werkmeister.engines.engine import Sampling


def test_a_base_is_found_as_the_expert_names_it_and_answers(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert")
    with open_as_trained("base", expert=expert) as engine:
        (reply,) = engine.replies([(Message("user", "What is the code of the red lamp?"),)], Sampling(max_tokens=4))
    assert 0 < len(reply.tokens) <= 4


def test_asked_for_nf4_it_holds_four_bits(tmp_path: Path) -> None:
    expert = tiny_expert(tmp_path / "expert")
    with open_as_trained("base", precision="nf4", expert=expert) as engine:
        assert engine._model.is_loaded_in_4bit
