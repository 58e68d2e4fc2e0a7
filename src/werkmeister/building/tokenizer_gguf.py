"""What a GGUF says about tokenizer and chat template, made from a tokenizer of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from gguf import TokenType

from werkmeister.bases.base import Base
from werkmeister.bases.gguf_file import encode
from werkmeister.bases.gguf_header import decode
from werkmeister.bases.splits import name_of
from werkmeister.bases.tokens import load_tokenizer
from werkmeister.errors import BaseModelError

TEMPLATE = "tokenizer.chat_template"
NAME = "general.name"
_PHI3 = re.compile("phi-?3", re.IGNORECASE)
_TOKENS, _EOS, _EOT = "tokenizer.ggml.tokens", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"


def template_metadata(base: Base, metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """What must change in a GGUF's metadata for the template in force: nothing when it is the base's own.

    A template that was supplied ends its turns with a token that the base's file does not know as an end (Gemma's base
    models end with <eos>, its template with <end_of_turn>): that one becomes the end-of-turn token.
    """
    if base.template_source == "base" and TEMPLATE in metadata:
        return {}
    eos = decode(metadata[_EOS]) if _EOS in metadata else None
    return {TEMPLATE: encode(base.template)} | _end_of_turn(base, decode(metadata[_TOKENS]), eos)


def _end_of_turn(base: Base, tokens: list[str], eos: int | None) -> dict[str, bytes]:
    others = [tokens.index(text) for text in base.stop if text in tokens and tokens.index(text) != eos]
    return {_EOT: encode(others[0])} if others else {}


def tokenizer_metadata(base: Base, size: int) -> dict[str, bytes]:
    """Vocabulary, merges or scores, special tokens and template of a base for an embedding of `size` rows.

    Ids beyond the vocabulary are filled with unused tokens; ids beyond the embedding are left out (Gemma 3 1B lists an
    image token that it has no row for). Raises BaseModelError for a tokenizer that is neither byte-level BPE with a
    split that llama.cpp knows nor BPE with byte fallback as converted from SentencePiece.
    """
    tokenizer = load_tokenizer(base)
    parts: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model = parts["model"]
    if model["type"] != "BPE":
        raise BaseModelError(
            f"the tokenizer of {base.name} is of the kind {model['type']}, and export converts BPE",
            hint="name a .gguf file of the same model",
        )
    pieces = bool(model.get("byte_fallback"))
    tokens, types = _vocabulary(parts, size, pieces)
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    found: dict[str, Any] = {"model": "llama" if pieces else "gpt2"}
    found["pre"] = "default" if pieces else _split(base, parts["pre_tokenizer"])
    found |= {"tokens": tokens, "token_type": types}
    if pieces:
        found["scores"] = _scores(tokens, merges)
    else:
        found["merges"] = [" ".join(pair) for pair in merges]
    found |= _flags(tokenizer, pieces)
    named = {NAME: encode(_name(base, parts))}
    metadata = {f"tokenizer.ggml.{key}": encode(value) for key, value in found.items()}
    end = _end_of_turn(base, tokens, tokenizer.eos_token_id)
    return named | metadata | end | {TEMPLATE: encode(base.template)}


def _vocabulary(parts: Mapping[str, Any], size: int, pieces: bool) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [int(TokenType.UNUSED)] * size
    unknown = parts["model"].get("unk_token")
    for text, number in parts["model"]["vocab"].items():
        if number >= size:
            continue
        tokens[number], types[number] = text, int(TokenType.NORMAL)
        if pieces and text == unknown:
            types[number] = int(TokenType.UNKNOWN)
        elif pieces and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[number] = int(TokenType.BYTE)
    for added in parts["added_tokens"]:
        number, text = added["id"], added["content"]
        if number >= size or types[number] == TokenType.UNKNOWN:
            continue
        # llama.cpp looks for added tokens in the text itself, where SentencePiece's mark is still a space.
        tokens[number] = text if added["special"] or not pieces else text.replace("▁", " ")
        types[number] = int(TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED)
    return tokens, types


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """SentencePiece's scores, whose order alone counts: the earlier the merge that makes a piece, the higher."""
    rank: dict[str, int] = {}
    for place, pair in enumerate(merges):
        rank.setdefault("".join(pair), place)
    last = len(merges)
    return [-float(rank.get(token, last)) for token in tokens]


def _split(base: Base, pre_tokenizer: Mapping[str, Any] | None) -> str:
    steps = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    digits = any(step.get("type") == "Digits" and step.get("individual_digits") for step in steps)
    patterns = [step["pattern"].get("Regex", "") for step in steps if step.get("type") == "Split"]
    name = name_of((digits, patterns[0] if patterns else ""))
    if name is None or not any(step.get("type") == "ByteLevel" for step in steps):
        raise BaseModelError(
            f"the tokenizer of {base.name} splits text in a way that export does not know: {pre_tokenizer}",
            hint="name a .gguf file of the same model",
        )
    return name


def _flags(tokenizer: Any, pieces: bool) -> dict[str, Any]:
    """Ids of special tokens, and what is put in front of a text, read off the tokenizer's own answers."""
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "padding": tokenizer.pad_token_id}
    ids["unknown"] = tokenizer.unk_token_id
    begins = tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    first = tokenizer.convert_ids_to_tokens(tokenizer("a", add_special_tokens=False)["input_ids"])[0]
    return {
        **{f"{name}_token_id": number for name, number in ids.items() if number is not None},
        "add_bos_token": begins,
        "add_eos_token": False,
        "add_space_prefix": pieces and first.startswith("▁"),
    }


def _name(base: Base, parts: Mapping[str, Any]) -> str:
    """The model's name. llama.cpp swallows the white space behind a special token, as the tokens of Phi-3 ask for, in
    a model whose name says Phi-3, and only there."""
    plain = _PHI3.sub("phi 3", base.name.replace("\\", "/").rstrip("/").rpartition("/")[2])
    swallows = any(added["rstrip"] for added in parts["added_tokens"])
    return f"{plain} phi-3" if swallows else plain
