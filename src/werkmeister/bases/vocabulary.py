"""What a tokenizer's files say (begin and end token, special tokens, chat template), read without transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from werkmeister.errors import BaseModelError

# The files that decide what text becomes which tokens; a model folder must have one of the first three.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json"),
    *("tokenizer_config.json", "special_tokens_map.json"),
)
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """`special` maps bos_token and eos_token to their texts ("" where absent); `tokens` are all special tokens;
    `template` is the base's own chat template, or ""."""

    special: dict[str, str]
    tokens: frozenset[str]
    template: str


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read the tokenizer files of a model folder.

    Raises BaseModelError when there is no tokenizer, or when one of its files is no JSON.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES[:3]):
        raise BaseModelError(
            f"{folder} is incomplete: it has no tokenizer (tokenizer.json, tokenizer.model or vocab.json)",
            hint="fetch the tokenizer files of the model too",
        )
    config = _json(folder / "tokenizer_config.json")
    named = {**_json(folder / "special_tokens_map.json"), **config}
    added = _json(folder / "tokenizer.json").get("added_tokens") or []
    listed = [*added, *(config.get("added_tokens_decoder") or {}).values()]
    special = {name: _text(named.get(name)) for name in ("bos_token", "eos_token")}
    tokens = {str(entry["content"]) for entry in listed if entry.get("special")}
    return Vocabulary(
        special=special,
        tokens=frozenset(tokens | {text for text in special.values() if text}),
        template=_template(folder, config),
    )


def _template(folder: Path, config: dict[str, Any]) -> str:
    # The order in which transformers looks: a file of its own wins over the entry in tokenizer_config.json.
    own = folder / TEMPLATE_FILES[0]
    if own.is_file():
        return own.read_text(encoding="utf-8")
    found = _json(folder / TEMPLATE_FILES[1]).get("chat_template") or config.get("chat_template") or ""
    if isinstance(found, list):
        texts = {entry.get("name"): entry.get("template", "") for entry in found}
        found = texts.get("default") or next(iter(texts.values()), "")
    return str(found)


def _text(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{file} cannot be read: {error}", hint="fetch the model again") from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{file} holds no JSON object", hint="fetch the model again")
    return value
