"""A base's tokenizer under the template in force, and the token ids of prompts and of examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from werkmeister.bases.base import Base
from werkmeister.bases.templates import stop_texts
from werkmeister.chat import Conversation, Example, Message, messages_json
from werkmeister.errors import BaseModelError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PADS = ("<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>", "<|unk|>")
_BATCH = 1024


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """The tokenizer of `base` with the template in force and a padding token that ends nothing.

    A padding token that is also an end token would be masked out of the labels with the padding, and the model would
    never learn to stop: another special token takes its place. No token is ever added to the vocabulary. Raises
    BaseModelError when the files cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base.folder)
    except Exception as error:
        # The tokenizers library raises plain Exception for a file it cannot read.
        if type(error) is not Exception and not isinstance(error, OSError | ValueError | KeyError | ImportError):
            raise
        raise BaseModelError(
            f"the tokenizer of {base.name} in {base.folder} cannot be loaded: {error}", hint="fetch the model again"
        ) from error
    tokenizer.chat_template = base.template
    tokenizer.padding_side = "right"
    ends = {*base.stop, tokenizer.eos_token}
    if tokenizer.pad_token is None or tokenizer.pad_token in ends:
        tokenizer.pad_token = _padding(tokenizer, ends)
    return tokenizer


def prompt_ids(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[int]:
    """Token ids of a conversation up to where the answer begins: template applied, begin token exactly once."""
    return _encode(tokenizer, [prompt_text(tokenizer, conversation)])[0]


def full_ids(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[list[int], list[int]]:
    """Token ids of the prompt, and of the completion that begins exactly where the prompt ends.

    The completion's last token is the one that ends the turn; what the template writes after it (a line break) is cut
    off, since nothing is generated after it. Raises DataError when the template rewrites the prompt once an answer
    follows, so that no boundary exists.
    """
    return examples_ids(tokenizer, [example])[0]


def examples_ids(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> list[tuple[list[int], list[int]]]:
    """`full_ids` of many examples at once, much faster than one by one."""
    end = _end_of_turn(tokenizer)
    pairs: list[tuple[list[int], list[int]]] = []
    for start in range(0, len(examples), _BATCH):
        texts = [_texts(tokenizer, example, end) for example in examples[start : start + _BATCH]]
        prompts = _encode(tokenizer, [prompt for prompt, _ in texts])
        wholes = _encode(tokenizer, [prompt + completion for prompt, completion in texts])
        for (_, completion), head, whole in zip(texts, prompts, wholes, strict=True):
            if whole[: len(head)] == head:
                pairs.append((head, whole[len(head) :]))
            else:
                # A token spans the boundary. The engine sees the prompt alone, so training must see it alone too.
                tail = tokenizer(completion, add_special_tokens=False)["input_ids"]
                pairs.append((head, list(tail)))
    return pairs


def count_tokens(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> list[int]:
    """Length in tokens of each example, prompt and completion together."""
    return [len(prompt) + len(completion) for prompt, completion in examples_ids(tokenizer, examples)]


def prompt_text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> str:
    """The conversation as the template writes it, up to where the answer begins."""
    return _render(tokenizer, conversation, generation=True)


def completion_text(tokenizer: PreTrainedTokenizerBase, example: Example) -> str:
    """What the model has to write after the prompt: the answer and the text of the token that ends the turn."""
    return _texts(tokenizer, example, _end_of_turn(tokenizer))[1]


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the special token that the template writes after an answer, or "" when it writes none."""
    special = {"bos_token": tokenizer.bos_token or "", "eos_token": tokenizer.eos_token or ""}
    tokens = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    found = stop_texts(tokenizer.chat_template, special, tokens)[:1]
    return found[0] if found and found[0] in tokens else ""


def _texts(tokenizer: PreTrainedTokenizerBase, example: Example, end: str) -> tuple[str, str]:
    prompt = prompt_text(tokenizer, example.prompt)
    whole = _render(tokenizer, (*example.prompt, Message("assistant", example.target)), generation=False)
    if not whole.startswith(prompt):
        raise DataError(
            f"{example.source or example.id}: the chat template writes the prompt differently once an answer follows",
            hint="choose a base whose template keeps the prompt, or put a plain chat_template.jinja into its folder",
        )
    completion = whole[len(prompt) :]
    # The template writes the end token behind the answer, so the last one is its own even where the answer holds one.
    head, found, _ = completion.rpartition(end) if end else ("", "", "")
    return prompt, head + end if found else completion.rstrip() + (tokenizer.eos_token or "")


def _render(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, *, generation: bool) -> str:
    import jinja2

    try:
        text: str = tokenizer.apply_chat_template(
            messages_json(conversation), tokenize=False, add_generation_prompt=generation
        )
    except jinja2.TemplateError as error:
        roles = ", ".join(message.role for message in conversation)
        raise DataError(
            f"the base's chat template refuses a conversation of the turns {roles}: {error}",
            hint="let user and assistant take turns, after at most one system message",
        ) from error
    return text


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    begin = tokenizer.bos_token_id
    # llama.cpp puts the begin token in front of whatever the template wrote, and never twice.
    if begin is not None and tokenizer("")["input_ids"][:1] == [begin]:
        ids = [row if row[:1] == [begin] else [begin, *row] for row in ids]
    return ids


def _padding(tokenizer: PreTrainedTokenizerBase, ends: set[str | None]) -> str:
    known = tokenizer.get_vocab()
    candidates: list[str] = [*_PADS, *tokenizer.all_special_tokens, *sorted(tokenizer.added_tokens_encoder)]
    for token in candidates:
        if token in known and token not in ends and token != tokenizer.bos_token:
            return token
    raise BaseModelError(
        f"the vocabulary of {tokenizer.name_or_path} has no token to pad with that does not end an answer",
        hint='set "pad_token" in its tokenizer_config.json to a token that text never contains',
    )
