"""What a base model is, whatever it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model whose files lie on this machine.

    `folder` is in the Hugging Face layout (config.json, safetensors, tokenizer) and is what training loads; `gguf` is
    the base's own GGUF where it has one: export then keeps its tokenizer, template and metadata byte for byte.
    `template` is the Jinja chat template in force and `template_source` says where it comes from ("base", or
    "standard gemma" and so on when the base has none and one was supplied). `stop` are the texts of the tokens that
    end a turn under that template. `identity` is a hash that changes when weights, tokenizer or template do.
    `multimodal` marks a checkpoint with a vision tower, of which only the text part is trained and exported.
    """

    name: str
    source: str
    folder: Path
    gguf: Path | None
    architecture: str
    context_length: int
    parameters: int
    template: str
    template_source: str
    stop: tuple[str, ...]
    identity: str
    licence: str
    multimodal: bool = False
