"""What a GGUF says about its tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Mapping

from werkmeister.bases.base import Base
from werkmeister.building.gguf_file import decode, encode

TEMPLATE = "tokenizer.chat_template"


def template_metadata(base: Base, metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """What must change in a GGUF's metadata for the template in force: nothing when it is the base's own.

    A template that was supplied ends its turns with a token that the base's file does not know as an end (Gemma's base
    models end with <eos>, its template with <end_of_turn>): that one becomes the end-of-turn token.
    """
    if base.template_source == "base" and TEMPLATE in metadata:
        return {}
    changed = {TEMPLATE: encode(base.template)}
    tokens: list[str] = decode(metadata["tokenizer.ggml.tokens"])
    ends = [tokens.index(text) for text in base.stop if text in tokens]
    eos = metadata.get("tokenizer.ggml.eos_token_id")
    others = [number for number in ends if eos is None or number != decode(eos)]
    return changed | ({"tokenizer.ggml.eot_token_id": encode(others[0])} if others else {})
