"""How byte-level tokenizers split a text before merging, and the names by which llama.cpp knows these splits.

A split is (digits one by one, pattern or "" for GPT-2's own). The converter of transformers ignores a GGUF's
`tokenizer.ggml.pre` and splits as GPT-2 does, which gives other tokens than the served file for a number after a line
break; so preparing a base sets the split by name, and export finds the name of a tokenizer's split.
"""

from __future__ import annotations

Split = tuple[bool, str]

_GPT2: Split = (False, "")
_DIGITS: Split = (True, "")
_LLAMA3: Split = (
    False,
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_QWEN2: Split = (False, _LLAMA3[1].replace(r"\p{N}{1,3}", r"\p{N}"))
_GPT4O: Split = (
    False,
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
SPLITS: dict[str, Split] = {
    **{"gpt-2": _GPT2, "smollm": _DIGITS, "llama-bpe": _LLAMA3, "qwen2": _QWEN2, "gpt-4o": _GPT4O},
    **dict.fromkeys(("starcoder", "refact", "command-r"), _DIGITS),
    **dict.fromkeys(("llama3", "llama-v3", "smaug-bpe"), _LLAMA3),
    "stablelm2": _QWEN2,
}
"""`tokenizer.ggml.pre` → split; of several names for one split, the first is the one to write."""


def name_of(split: Split) -> str | None:
    """The name to write into a GGUF for a split; None when llama.cpp has none that is known here."""
    return next((name for name, known in SPLITS.items() if known == split), None)
