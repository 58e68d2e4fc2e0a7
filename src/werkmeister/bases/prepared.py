"""Turns a GGUF file into the Hugging Face layout once, so that training can load it in about a second.

The weights are dequantised through transformers and kept in float16. Against float32 that costs a KL divergence of
3e-6 on SmolLM2-135M Q4_1 (the next-token distribution of text, mean over positions) for half the disk, where bfloat16
costs 1e-4, since scale x q + minimum needs more than its 8 bits. Values beyond float16's range fall back to float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkmeister.bases.gguf_header import GgufHeader
from werkmeister.bases.rotary import rotary_scaling
from werkmeister.bases.splits import SPLITS
from werkmeister.errors import BaseModelError
from werkmeister.machine import need_disk
from werkmeister.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Rises when the method below changes, so that folders prepared by an older one are made again.
VERSION = 2


def prepare(header: GgufHeader, folder: Path, progress: Progress) -> None:
    """Write config.json, model.safetensors and the tokenizer of a GGUF file into the new folder `folder`.

    The folder appears whole or not at all. Raises BaseModelError when transformers cannot read the architecture or
    when dequantised values are not finite.
    """
    values = sum(tensor.values for tensor in header.tensors.values())
    need_disk(folder.parent, values * 2, f"preparing {header.path.name}")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    progress.say(f"preparing {header.path.name} for training: dequantising {values / 1e6:.0f} M weights (once)")
    try:
        from werkmeister.bases.load import quiet

        with quiet():
            _write_tokenizer(header, partial, progress)
            _write_model(header, partial, progress)
    except (ValueError, KeyError, RuntimeError) as error:
        raise BaseModelError(
            f"{header.path} ({header.architecture}) cannot be prepared for training: {error}",
            hint="name the Hugging Face id of the same model instead",
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _write_model(header: GgufHeader, folder: Path, progress: Progress) -> None:
    import torch

    with _shown(progress, f"dequantising {header.path.name}", len(header.tensors)):
        model = _dequantised(header, torch.float16)
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        model = _dequantised(header, torch.float32)
        if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
            raise ValueError("some of its weights are not finite numbers")
    config = model.config
    # transformers refuses to save what it read from a GGUF ("quantized with gguf"): the same class made afresh on no
    # memory takes over the tensors and is saved instead.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(model).__name__]
    with torch.device("meta"):
        fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.generation_config = model.generation_config
    fresh.save_pretrained(folder, max_shard_size="4GB")


def _dequantised(header: GgufHeader, dtype: torch.dtype) -> PreTrainedModel:
    import transformers

    path = header.path
    # Newer releases keep the blocks packed where they find a kernel for them, unless told otherwise.
    packed = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packed(dequantize=True)} if packed else {}
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=dtype, **options
    )
    _set_rope(header, model.config)
    return model


@contextmanager
def _shown(progress: Progress, label: str, total: int) -> Iterator[None]:
    """Show the dequantising of transformers, which draws a bar of its own, in ours."""
    from transformers import modeling_gguf_pytorch_utils as reader

    own = getattr(reader, "tqdm", None)
    with progress.track(label, total) as track:

        def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
            for tensor in tensors:
                yield tensor
                track.advance()

        if own is not None:
            reader.tqdm = counted
        try:
            yield
        finally:
            if own is not None:
                reader.tqdm = own


def _set_rope(header: GgufHeader, config: Any) -> None:
    scaling = rotary_scaling(header)
    if scaling:
        parameters = config.rope_parameters
        # Gemma 3 keeps one set for each kind of layer, and scales the full attention alone.
        parameters.get("full_attention", parameters).update(scaling)


def _write_tokenizer(header: GgufHeader, folder: Path, progress: Progress) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(header.path.parent, gguf_file=header.path.name)
    metadata = header.metadata
    if metadata.get("tokenizer.ggml.model") == "gpt2":
        _set_split(tokenizer, str(metadata.get("tokenizer.ggml.pre", "gpt-2")), progress)
    _set_begin(tokenizer, metadata)
    # A class of one family (GemmaTokenizer) would build its own rules again when it is loaded; the general one takes
    # what stands in tokenizer.json.
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    plain = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        chat_template=metadata.get("tokenizer.chat_template"),
        model_max_length=int(header.get("context_length")),
        **{name: getattr(tokenizer, name) for name in names if getattr(tokenizer, name)},
    )
    plain.save_pretrained(folder)


def _set_split(tokenizer: PreTrainedTokenizerBase, kind: str, progress: Progress) -> None:
    from tokenizers import Regex, pre_tokenizers

    if kind not in SPLITS:
        progress.say(f"the tokenizer's split {kind!r} is not known here; export checks that token ids are equal")
        return
    digits, pattern = SPLITS[kind]
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if pattern:
        steps.append(pre_tokenizers.Split(Regex(pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern))
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]


def _set_begin(tokenizer: PreTrainedTokenizerBase, metadata: Mapping[str, Any]) -> None:
    """Put the begin token in front of a text exactly when llama.cpp does."""
    from tokenizers import processors

    wanted = metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.model") == "llama")
    begin = tokenizer.bos_token
    if wanted and begin:
        post = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B:1", special_tokens=[(begin, tokenizer.bos_token_id)]
        )
    else:
        post = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    tokenizer.backend_tokenizer.post_processor = post
