"""Loads the text decoder of a base, ready for LoRA, and finds the layers that LoRA adapts."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from werkmeister.bases.base import Base
from werkmeister.errors import BaseModelError, SettingsError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
# Where the text decoder lies in a multimodal checkpoint: as published, and as transformers 4.52 and later wrote it.
_TEXT_KEYS = {r"^language_model\.model\.": "model.", r"^model\.language_model\.": "model."}
_ALONE = {r"^language_model\.lm_head\.": "lm_head."}
_OUTSIDE = ("vision_tower", "vision_model", "multi_modal_projector", "audio_tower")
# A projection's short name → the modules that hold it, the fused ones of Phi-3 and relatives behind the plain one.
_PROJECTIONS = {
    "q": ("q_proj", "qkv_proj"),
    "k": ("k_proj", "qkv_proj"),
    "v": ("v_proj", "qkv_proj"),
    "o": ("o_proj", "dense"),
    "gate": ("gate_proj", "gate_up_proj"),
    "up": ("up_proj", "gate_up_proj"),
    "down": ("down_proj",),
}


def load_model(
    base: Base,
    *,
    dtype: torch.dtype,
    quantization_config: Any = None,
    device: str | None = None,
    attention: str = "sdpa",
    placed: bool = True,
) -> PreTrainedModel:
    """The causal language model of `base` with its weights in `dtype`, or quantised as `quantization_config` says.

    Of a multimodal checkpoint only the text decoder is built, as the family's own text class: the vision tower never
    reaches memory, no `token_type_ids` are asked for, and the logits are those of the whole class on text. `device`
    None means the GPU where there is one and the CPU otherwise; not `placed`, the weights go where FSDP puts them.
    Raises BaseModelError when a weight is missing.
    """
    import torch

    config, kind = _text_class(base)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    options: dict[str, Any] = {"key_mapping": {**_TEXT_KEYS, **_ALONE}} if base.multimodal else {}
    if quantization_config is not None:
        options["quantization_config"] = quantization_config
    try:
        with quiet():
            model, report = kind.from_pretrained(
                base.folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention,
                device_map={"": place} if placed else None,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise BaseModelError(f"base {base.name} cannot be loaded: {error}", hint="fetch the model again") from error
    missing = sorted(report["missing_keys"]) + [str(entry) for entry in report["mismatched_keys"]]
    if missing:
        raise BaseModelError(
            f"base {base.name} in {base.folder} lacks weights that its config.json promises",
            problems=missing[:10] + [f"and {len(missing) - 10} more"] * (len(missing) > 10),
            hint="fetch the model again",
        )
    loaded: PreTrainedModel = model
    return loaded


def nf4(compute: torch.dtype, *, sharded: bool = False) -> Any:
    """The BitsAndBytesConfig of QLoRA (NF4, double quantisation) with arithmetic in `compute`.

    `sharded`: the 4-bit blocks are kept in that dtype, in which FSDP can cut them.
    Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs".
    """
    from transformers import BitsAndBytesConfig

    storage = {"bnb_4bit_quant_storage": compute} if sharded else {}
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        **storage,
    )


def lora_targets(model: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """The modules that LoRA adapts, in the form that PEFT takes.

    `names` are short projections (q, k, v, o, gate, up, down), names of modules (q_proj), or "all-linear" for every
    linear layer but the output head. Where a family fuses projections (Phi: qkv_proj, gate_up_proj) the fused module
    is taken. Only the text decoder is ever hit: plain module names are returned where they hit nothing else, full
    paths otherwise. Raises SettingsError naming what the model has when a name fits nothing.
    """
    linear = _linear_layers(model)
    inside = {path for path in linear if not any(part in path.split(".") for part in _OUTSIDE)}
    known = sorted({path.rpartition(".")[2] for path in inside})
    if ALL_LINEAR in names:
        wanted = set(known)
    else:
        wanted = set()
        unknown = []
        for name in names:
            found = [module for module in _modules(name) if module in known][:1]
            wanted |= set(found)
            unknown += [] if found else [name]
        if unknown:
            near = [difflib.get_close_matches(name, known, n=1, cutoff=0.5) for name in unknown]
            told = [
                f"{name} (nearest: {found[0]})" if found else name for name, found in zip(unknown, near, strict=True)
            ]
            raise SettingsError(
                f"train.targets: the model ({type(model).__name__}) has no {', '.join(told)}",
                hint=f"it has {', '.join(known)}; or use {ALL_LINEAR}",
            )
    chosen = {path for path in inside if path.rpartition(".")[2] in wanted}
    hit = {path for path in _all_names(model) if path.rpartition(".")[2] in wanted}
    return sorted(wanted) if hit == chosen else sorted(chosen)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars and load reports from a person's screen; errors are raised all the same."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _text_class(base: Base) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        config = AutoConfig.from_pretrained(base.folder)
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(
            f"base {base.name}: this version of transformers does not know it: {error}",
            hint="upgrade transformers, or choose another base",
        ) from error
    if not base.multimodal:
        return config, AutoModelForCausalLM
    text = config.get_text_config()
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(text)]
    text.architectures = [kind.__name__]
    return text, kind


def _modules(name: str) -> tuple[str, ...]:
    return _PROJECTIONS.get(name.removesuffix("_proj"), ()) if name not in ("qkv_proj", "gate_up_proj") else (name,)


def _linear_layers(model: PreTrainedModel) -> set[str]:
    import torch

    head = model.get_output_embeddings()
    kind = torch.nn.Linear
    return {path for path, module in model.named_modules() if isinstance(module, kind) and module is not head}


def _all_names(model: PreTrainedModel) -> list[str]:
    return [path for path, _ in model.named_modules()]
