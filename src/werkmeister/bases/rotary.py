"""Rotary scaling of a GGUF file in the terms of transformers, whose GGUF reader drops it without a word."""

from __future__ import annotations

import math
from typing import Any

from werkmeister.bases.gguf_header import GgufHeader

_LLAMA3 = "rope_freqs.weight"
_LONG = ("rope_factors_long.weight", "rope_factors_short.weight")
# What Llama 3.1 and later stretch from; their GGUF files hold only the factors that result.
_LLAMA3_ORIGINAL, _LOW, _HIGH = 8192, 1.0, 4.0
_CLOSE = 1e-3


def rotary_scaling(header: GgufHeader) -> dict[str, Any]:
    """The entries of `rope_parameters` that a GGUF file asks for beyond the base frequency; empty for none.

    Raises ValueError for a scaling that cannot be carried over exactly.
    """
    if any(name in header.tensors for name in _LONG):
        raise ValueError(f"its rotary factors ({_LONG[0]}) cannot be carried over")
    if _LLAMA3 in header.tensors:
        return _llama3(header)
    kind = header.get("rope.scaling.type", "none")
    factor = float(header.get("rope.scaling.factor", 1.0))
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    raise ValueError(f"its rotary scaling {kind!r} cannot be carried over")


def llama3_factors(factor: float, base: float, width: int, original: int = _LLAMA3_ORIGINAL) -> list[float]:
    """What each rotary frequency of a head of `width` is divided by under Llama 3's scaling.

    Source: the "llama3" entry of transformers' modeling_rope_utils and llama.cpp's converter, which agree.
    """
    factors = []
    for pair in range(width // 2):
        wave = 2 * math.pi * base ** (2 * pair / width)
        smooth = min(1.0, max(0.0, (original / wave - _LOW) / (_HIGH - _LOW)))
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _llama3(header: GgufHeader) -> dict[str, Any]:
    import numpy as np

    entry = header.tensors[_LLAMA3]
    stored = np.fromfile(header.path, "<f4", entry.values, offset=header.offsets[_LLAMA3])
    factor = float(stored.max())
    base = float(header.get("rope.freq_base", 10000.0))
    expected = llama3_factors(factor, base, 2 * entry.values)
    if entry.type != "F32" or not np.allclose(stored, expected, rtol=_CLOSE):
        raise ValueError(f"its rotary factors ({_LLAMA3}) are not those of Llama 3 and cannot be carried over")
    return {
        "rope_type": "llama3",
        "factor": round(factor, 4),
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _LLAMA3_ORIGINAL,
    }
