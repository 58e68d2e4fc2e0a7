"""Token ids: the completion begins where the prompt ends and its last token ends the turn."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.checkpoints import FAMILIES, write_llama
from werkmeister.bases.find import find_base
from werkmeister.bases.tokens import (
    completion_text,
    count_tokens,
    examples_ids,
    full_ids,
    load_tokenizer,
    prompt_ids,
    prompt_text,
)
from werkmeister.chat import Example, Message, conversation, messages_json
from werkmeister.errors import BaseModelError, DataError
from werkmeister.progress import Silent

EXAMPLE = Example(
    prompt=conversation("What is the code of the  red lamp?\n 12 or 3,5 Öl", "Answer with the code."),
    target='{"c": "R1"}',
)
EARLIER = Example(
    prompt=(*conversation("First?", "Be brief."), Message("assistant", "Yes."), Message("user", "And 2nd?")),
    target="No.",
)


def _both(folder: Path) -> tuple[Any, Any]:
    base = find_base(str(folder), progress=Silent())
    return base, load_tokenizer(base)


def _whole(tokenizer: Any, example: Example) -> list[int]:
    turns = messages_json((*example.prompt, Message("assistant", example.target)))
    return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False))


@pytest.mark.parametrize("example", [EXAMPLE, EARLIER], ids=["one turn", "two turns"])
@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_and_completion_are_what_transformers_gives(
    family: str, example: Example, checkpoints: dict[str, Path], cache: Path
) -> None:
    base, tokenizer = _both(checkpoints[family])
    prompt, completion = full_ids(tokenizer, example)
    turns = messages_json(example.prompt)
    assert prompt == tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert prompt == prompt_ids(tokenizer, example.prompt)
    whole = _whole(tokenizer, example)
    assert whole[: len(prompt) + len(completion)] == prompt + completion
    assert tokenizer.decode(completion) == example.target + base.stop[0] == completion_text(tokenizer, example)
    assert tokenizer.convert_ids_to_tokens(completion[-1:]) == [base.stop[0]]


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_never_ends_a_turn_and_adds_no_token(family: str, checkpoints: dict[str, Path], cache: Path) -> None:
    from transformers import AutoTokenizer

    base, tokenizer = _both(checkpoints[family])
    assert tokenizer.pad_token not in (*base.stop, tokenizer.eos_token, None)
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(checkpoints[family]))
    _, completion = full_ids(tokenizer, EXAMPLE)
    assert tokenizer.pad_token_id not in completion


@pytest.mark.parametrize("family", ["gemma3-text", "gemma3"])
def test_the_begin_token_stands_there_once(family: str, checkpoints: dict[str, Path], cache: Path) -> None:
    _, tokenizer = _both(checkpoints[family])
    assert prompt_ids(tokenizer, EXAMPLE.prompt).count(tokenizer.bos_token_id) == 1
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    ids = prompt_ids(tokenizer, EXAMPLE.prompt)
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    prompt, completion = full_ids(tokenizer, EXAMPLE)
    assert prompt == ids and completion.count(tokenizer.bos_token_id) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40))
@example(target="\n")
@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_any_answer_ends_with_the_end_token_behind_the_same_prompt(
    family: str, target: str, checkpoints: dict[str, Path], cache: Path
) -> None:
    base, tokenizer = _both(checkpoints[family])
    prompt, completion = full_ids(tokenizer, dataclasses.replace(EXAMPLE, target=target))
    assert prompt == prompt_ids(tokenizer, EXAMPLE.prompt)
    assert tokenizer.convert_ids_to_tokens(completion[-1:]) == [base.stop[0]]
    text = prompt_text(tokenizer, EXAMPLE.prompt) + target + base.stop[0]
    begin = [tokenizer.bos_token_id] if tokenizer("")["input_ids"] else []
    together = begin + tokenizer(text, add_special_tokens=False)["input_ids"]
    # A line feed in front would melt into one token with the prompt's last, which serving never sends.
    assert together == prompt + completion or target[0].isspace()
    assert tokenizer.decode(together) == tokenizer.decode(prompt + completion)


def test_an_answer_that_holds_the_end_token_keeps_it_and_ends_with_another(
    checkpoints: dict[str, Path], cache: Path
) -> None:
    _, tokenizer = _both(checkpoints["llama"])
    odd = dataclasses.replace(EXAMPLE, target="write <|im_end|> here")
    assert completion_text(tokenizer, odd) == "write <|im_end|> here<|im_end|>"


def test_a_token_over_the_boundary_leaves_the_prompt_as_the_engine_sees_it(tmp_path: Path, cache: Path) -> None:
    # The turn opens with a letter that merges with the answer's first: "code" is one token.
    glued = "{% for m in messages %}{% if m.role == 'assistant' %}co{{ m.content }}<|im_end|>"
    glued += "{% else %}{{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}co{% endif %}"
    _, tokenizer = _both(write_llama(tmp_path / "glued", template=glued))
    example = Example(prompt=conversation("the", "What"), target="de")
    prompt, completion = full_ids(tokenizer, example)
    assert prompt == prompt_ids(tokenizer, example.prompt)
    assert prompt + completion != tokenizer("What the code<|im_end|>")["input_ids"]
    assert tokenizer.decode(completion) == "de<|im_end|>"


def test_many_examples_at_once_are_the_same_as_one_by_one(checkpoints: dict[str, Path], cache: Path) -> None:
    _, tokenizer = _both(checkpoints["gemma3-text"])
    examples = [dataclasses.replace(EXAMPLE, target="R" * (1 + n % 7)) for n in range(50)] + [EARLIER]
    together = examples_ids(tokenizer, examples)
    assert together == [full_ids(tokenizer, example) for example in examples]
    assert count_tokens(tokenizer, examples) == [len(a) + len(b) for a, b in together]


def test_a_conversation_that_the_template_refuses_is_a_data_error(checkpoints: dict[str, Path], cache: Path) -> None:
    _, tokenizer = _both(checkpoints["gemma3-text"])
    with pytest.raises(DataError, match=r"turns user, user: .*alternate[\s\S]*take turns"):
        prompt_ids(tokenizer, (Message("user", "a"), Message("user", "b")))


def test_a_template_that_rewrites_the_prompt_is_a_data_error_with_the_example(tmp_path: Path, cache: Path) -> None:
    moving = "{{ messages | length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    _, tokenizer = _both(write_llama(tmp_path / "moving", template=moving))
    with pytest.raises(DataError, match=r"data\.jsonl:3: the chat template writes the prompt differently"):
        full_ids(tokenizer, dataclasses.replace(EXAMPLE, source="data.jsonl:3"))


def test_a_tokenizer_that_cannot_be_loaded_is_named(tmp_path: Path, cache: Path, checkpoints: dict[str, Path]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoints["llama"], folder)
    base = find_base(str(folder), progress=Silent())
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "Nothing"}}))
    with pytest.raises(BaseModelError, match=r"tokenizer of .*model.* cannot be loaded"):
        load_tokenizer(base)
