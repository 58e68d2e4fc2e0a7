"""Tiny random checkpoints in the real layouts of the families, each with a small real tokenizer trained on the spot.

Every function writes below 2 MB into a new folder and gives the same bytes for the same seed. Norm weights are drawn
too, since weights of one would hide a mistake in how a converter shifts them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from werkmeister.bases.base import Base

CONTEXT = 512
COLOURS = {"red": "R1", "green": "G2", "blue": "B3", "yellow": "Y4", "black": "K5", "white": "W6"}
THINGS = ("lamp", "door", "car", "coat", "wall", "boat", "cup", "ball", "tree", "book")
SYSTEM = "Answer with the code of the colour."
SENTENCES = [
    f"What is the code of the {colour} {thing}? {code}" for colour, code in COLOURS.items() for thing in THINGS
]
SENTENCES += [
    'You are a helpful assistant. Answer in JSON: {"name": "turn_on", "value": 42, "area": "kitchen"}',
    "Schalte das Licht im Wohnzimmer ein, bitte. Größe, Öl, Straße, über 20 Grad.",
    "system user assistant model Question: Answer:",
    "The quick brown fox jumps over the lazy dog; it's 2026-11-24, isn't it? They'll say 3,5 or 12345.",
    "def f(x):\n    return x + 1\n\n",
    SYSTEM,
]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# The shape of Qwen3's template: it can think aloud, and writes an empty thought where it is told not to.
THINKING = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' and loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{{- message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
# The shape of Phi-3's template: the eos token closes the whole conversation, <|end|> each turn.
PHI = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# The shape of Gemma 3's template: the system message goes in front of the first user's.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{{ first if loop.first else '' }}{{ message['content'] | trim }}{{ '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_llama(folder: Path, *, tied: bool = True, width: int = 64, template: str = CHATML, seed: int = 0) -> Path:
    """LlamaForCausalLM with a byte-level BPE of the GPT-2 kind and ChatML tokens, as SmolLM2 has; `width` 64 or 256."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = _write_byte_level(folder, qwen=False, template=template)
    config = LlamaConfig(
        **_sizes(size, width, heads=4, key_heads=2), tie_word_embeddings=tied, rope_theta=10000.0, rms_norm_eps=1e-5
    )
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 0
    return _save(LlamaForCausalLM, config, folder, seed)


def write_qwen3(folder: Path, *, tied: bool = True, width: int = 64, template: str = THINKING, seed: int = 0) -> Path:
    """Qwen3ForCausalLM (norms on q and k, heads wider than the model divides into) with Qwen's kind of BPE."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    size = _write_byte_level(folder, qwen=True, template=template)
    config = Qwen3Config(
        **_sizes(size, width, heads=4, key_heads=2),
        **{"head_dim": 32, "tie_word_embeddings": tied, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6},
    )
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 2, 0
    return _save(Qwen3ForCausalLM, config, folder, seed)


def write_phi3(folder: Path, *, width: int = 64, seed: int = 0) -> Path:
    """Phi3ForCausalLM (fused qkv_proj and gate_up_proj, untied) with a Llama-kind sentencepiece model."""
    from transformers import Phi3Config, Phi3ForCausalLM

    size = _write_sentencepiece(folder, gemma=False)
    config = Phi3Config(
        **_sizes(size, width, heads=4, key_heads=2),
        **{"tie_word_embeddings": False, "rope_theta": 10000.0, "rms_norm_eps": 1e-5},
        **{"original_max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    )
    end = json.loads((folder / "added_tokens.json").read_text())["<|endoftext|>"]
    config.pad_token_id, config.bos_token_id, config.eos_token_id = end, 1, end
    return _save(Phi3ForCausalLM, config, folder, seed)


def write_gemma3_text(folder: Path, *, chat: bool = True, width: int = 64, seed: int = 0) -> Path:
    """Gemma3ForCausalLM, six layers so that one attends to everything; without `chat` it has no chat template."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    size = _write_sentencepiece(folder, gemma=True, chat=chat)
    return _save(Gemma3ForCausalLM, Gemma3TextConfig(**_gemma_sizes(size, width)), folder, seed)


def write_gemma3(folder: Path, *, width: int = 64, published: bool = True, seed: int = 0) -> Path:
    """Gemma3ForConditionalGeneration with a SigLIP tower, laid out like google/gemma-3-4b-it.

    `published` writes two shards with an index and the names of the published files (`language_model.model.…`);
    otherwise it is one file with the names that transformers 4.52 and later wrote (`model.language_model.…`).
    """
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    size = _write_sentencepiece(folder, gemma=True, images=True)
    tokens = {entry["content"]: entry["id"] for entry in _read(folder / "tokenizer.json")["added_tokens"]}
    vision = {
        **{"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "image_size": 28, "patch_size": 7, "vision_use_head": False},
    }
    config = Gemma3Config(
        text_config=_gemma_sizes(size, width),
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=tokens["<start_of_image>"],
        eoi_token_index=tokens["<end_of_image>"],
        image_token_index=tokens["<image_soft_token>"],
    )
    config.eos_token_id = [1, tokens["<end_of_turn>"]]
    _save(Gemma3ForConditionalGeneration, config, folder, seed)
    _rename(folder, _published_name if published else _middle_name, shards=2 if published else 1)
    images = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 28, "width": 28}, "resample": 2}
    flags = dict.fromkeys(("do_normalize", "do_rescale", "do_resize"), True)
    kinds = {"image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor"}
    _write(folder / "preprocessor_config.json", images | flags | kinds | {"image_seq_length": 4})
    _write(folder / "processor_config.json", {"image_seq_length": 4, "processor_class": "Gemma3Processor"})
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "llama": write_llama,
    "llama-untied": lambda folder: write_llama(folder, tied=False),
    "llama-256": lambda folder: write_llama(folder, width=256),
    "qwen3": write_qwen3,
    "phi3": write_phi3,
    "gemma3-text": write_gemma3_text,
    "gemma3": write_gemma3,
}


def tiny_expert(folder: Path, *, checkpoint: Callable[[Path], Path] = write_llama, **tables: dict[str, Any]) -> Path:
    """An expert with sixty examples (colour and thing → code) on a tiny base in `folder`/base; returns `folder`.

    `tables` are further tables of expert.toml, such as train={"epochs": 1}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint(folder / "base")
    lines = []
    for colour, code in COLOURS.items():
        for thing in THINGS:
            record = {"prompt": f"What is the code of the {colour} {thing}?", "completion": code, "label": colour}
            lines.append(json.dumps(record))
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = f'[expert]\nbase = "./base"\nsystem = "{SYSTEM}"\n'
    for table, keys in tables.items():
        text += f"\n[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    (folder / "expert.toml").write_text(text, encoding="utf-8")
    return folder


def _sizes(vocabulary: int, width: int, *, heads: int, key_heads: int) -> dict[str, Any]:
    return {
        **{"vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": 2},
        "intermediate_size": min(2 * width, 256),
        **{"num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": CONTEXT},
        "initializer_range": 0.1,
    }


def _gemma_sizes(vocabulary: int, width: int) -> dict[str, Any]:
    # Eight tokens sooner or later leave a window of 16, so that sliding and full attention differ within a prompt.
    return _sizes(vocabulary, width, heads=2, key_heads=1) | {
        **{"model_type": "gemma3_text", "num_hidden_layers": 6, "head_dim": 32, "query_pre_attn_scalar": 32},
        **{"sliding_window": 16, "rms_norm_eps": 1e-6, "tie_word_embeddings": True},
    }


def _save(kind: Any, config: Any, folder: Path, seed: int) -> Path:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("norm.weight"):
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def _rename(folder: Path, rename: Callable[[str], str], shards: int) -> None:
    from safetensors.torch import load_file, save_file

    old = load_file(folder / "model.safetensors")
    new = {rename(name): value for name, value in old.items()}
    (folder / "model.safetensors").unlink()
    if shards == 1:
        save_file(new, folder / "model.safetensors", metadata={"format": "pt"})
        return
    files = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    place = {name: files[number % shards] for number, name in enumerate(sorted(new))}
    for file in files:
        save_file({name: new[name] for name in new if place[name] == file}, folder / file, metadata={"format": "pt"})
    size = sum(value.numel() * value.element_size() for value in new.values())
    _write(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": place})


def _published_name(name: str) -> str:
    return "vision_tower.vision_model." + name.removeprefix("vision_tower.") if "vision_tower" in name else name


def _middle_name(name: str) -> str:
    published = _published_name(name)
    return "model." + published.replace("language_model.model.", "language_model.", 1)


def _write_byte_level(folder: Path, *, qwen: bool, template: str) -> int:
    """A byte-level BPE tokenizer with ChatML tokens; returns the number of rows of the embedding."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not qwen)
    if qwen:
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(_QWEN_SPLIT), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    else:
        tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    if qwen:
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>" if qwen else "<|im_end|>"}
    if not qwen:
        named |= {"bos_token": "<|im_start|>", "unk_token": "<|endoftext|>"}
    _write_tokenizer_config(folder, "Qwen2Tokenizer" if qwen else "PreTrainedTokenizerFast", named, template)
    return _rows(tokenizer.get_vocab_size())


def _write_sentencepiece(folder: Path, *, gemma: bool, chat: bool = True, images: bool = False) -> int:
    """tokenizer.model and the tokenizer.json that goes with it; returns the number of rows of the embedding."""
    from tokenizers import AddedToken

    folder.mkdir(parents=True, exist_ok=True)
    pieces = _train_sentencepiece(folder / "tokenizer.model", gemma=gemma)
    tokenizer = _from_pieces(pieces, gemma=gemma)
    if gemma:
        special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
        special += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"] * images
        named = dict(zip(("pad_token", "eos_token", "bos_token", "unk_token"), special, strict=False))
        kind, template = "GemmaTokenizer", GEMMA if chat else ""
    else:
        special = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]
        named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
        kind, template = "LlamaTokenizer", PHI
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    known = {piece for piece, _ in pieces}
    added = {text: tokenizer.token_to_id(text) for text in special if text not in known}
    if added:
        _write(folder / "added_tokens.json", added)
    _write_tokenizer_config(folder, kind, named, template, add_bos_token=gemma, add_eos_token=False)
    return _rows(tokenizer.get_vocab_size())


def _train_sentencepiece(file: Path, *, gemma: bool) -> list[tuple[str, float]]:
    import io

    import sentencepiece

    model = io.BytesIO()
    ids = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3} if gemma else {"unk_id": 0, "bos_id": 1, "eos_id": 2}
    names = {"pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>"} if gemma else {"pad_id": -1}
    turns = {"user_defined_symbols": ["<start_of_turn>", "<end_of_turn>", "\n", "\n\n"]} if gemma else {}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        **{"model_type": "bpe", "vocab_size": 440, "byte_fallback": True, "split_digits": True, "num_threads": 1},
        **{"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "hard_vocab_limit": False},
        **{"add_dummy_prefix": not gemma, "character_coverage": 0.995, "minloglevel": 3},
        **ids,
        **names,
        **turns,
    )
    file.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]


def _from_pieces(pieces: list[tuple[str, float]], *, gemma: bool) -> Any:
    """The tokenizer.json form of a sentencepiece BPE: a pair merges in the order of the piece it makes."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: number for number, (piece, _) in enumerate(pieces)}
    scores = dict(pieces)
    merges = []
    for piece in vocabulary:
        cuts = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        merges += [(scores[piece], pair) for pair in cuts if pair[0] in vocabulary and pair[1] in vocabulary]
    merges.sort(key=lambda entry: (-entry[0], vocabulary[entry[1][0]], vocabulary[entry[1][1]]))
    bpe = models.BPE(vocabulary, [pair for _, pair in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    underscore = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if gemma:
        tokenizer.normalizer = underscore
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        begin = ("<bos>", vocabulary["<bos>"])
        tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", "<bos> $A <bos> $B:1", [begin])
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), underscore])
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _write_tokenizer_config(folder: Path, kind: str, named: dict[str, str], template: str, **other: Any) -> None:
    entries = _read(folder / "tokenizer.json")["added_tokens"]
    fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    decoder = {str(entry["id"]): {field: entry[field] for field in fields} for entry in entries}
    config = {"tokenizer_class": kind, "model_max_length": CONTEXT, "added_tokens_decoder": decoder, **named, **other}
    if template:
        config["chat_template"] = template
    _write(folder / "tokenizer_config.json", config)


def _rows(tokens: int) -> int:
    # Published models pad their embedding, so that ids without a token exist.
    return -(-tokens // 64) * 64


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def tiny_base(folder: Path, *, context_length: int = CONTEXT) -> Base:
    """A base on a tiny random Llama that is written into `folder`."""
    return Base(
        name="tiny",
        source="tests",
        folder=write_llama(folder),
        gguf=None,
        architecture="llama",
        context_length=context_length,
        parameters=1,
        template=CHATML,
        template_source="base",
        stop=("<|im_end|>",),
        identity="identity of tiny",
        licence="none",
    )
