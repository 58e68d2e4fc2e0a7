"""Writes a tiny random Llama as GGUF, and a LoRA adapter for it: independent of the project's own export."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from werkmeister.artefact import making

WIDTH, LAYERS, HEADS, KV_HEADS, INNER, CONTEXT = 32, 2, 4, 2, 64, 256
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]


def bytes_as_characters() -> list[str]:
    """GPT-2's alphabet: a printable character for each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(extra)) for byte in range(256)]


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges: special tokens, all bytes, and a few merged pairs."""
    merges = ["t h", "th e", "a n", "an d", "i n"]
    return SPECIALS + bytes_as_characters() + [merge.replace(" ", "") for merge in merges], merges


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors under GGUF names, wide enough spread that greedy answers are decided clearly."""
    random = np.random.default_rng(seed)
    vocab = len(vocabulary()[0])
    head = WIDTH // HEADS

    def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        return (random.standard_normal((rows, columns)) * scale / columns**0.5).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(vocab, WIDTH, WIDTH**0.5),
        "output.weight": matrix(vocab, WIDTH, 3.0),
        "output_norm.weight": np.ones(WIDTH, dtype=np.float32),
    }
    for layer in range(LAYERS):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": np.ones(WIDTH, dtype=np.float32),
            f"blk.{layer}.ffn_norm.weight": np.ones(WIDTH, dtype=np.float32),
            f"blk.{layer}.attn_q.weight": matrix(HEADS * head, WIDTH),
            f"blk.{layer}.attn_k.weight": matrix(KV_HEADS * head, WIDTH),
            f"blk.{layer}.attn_v.weight": matrix(KV_HEADS * head, WIDTH),
            f"blk.{layer}.attn_output.weight": matrix(WIDTH, HEADS * head),
            f"blk.{layer}.ffn_gate.weight": matrix(INNER, WIDTH),
            f"blk.{layer}.ffn_up.weight": matrix(INNER, WIDTH),
            f"blk.{layer}.ffn_down.weight": matrix(WIDTH, INNER),
        }
    return tensors


def write_model(
    path: Path,
    tensors: dict[str, np.ndarray] | None = None,
    *,
    template: str | None = TEMPLATE,
    begins: bool = False,
) -> Path:
    """Write the model; None for `template` leaves it out, `begins` says that prompts begin with the begin token."""
    writer = gguf.GGUFWriter(path, "llama")
    tokens, merges = vocabulary()
    writer.add_type("model")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * (len(tokens) - 5))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    if begins:
        writer.add_add_bos_token(True)
    if template is not None:
        writer.add_chat_template(template)
    for name, tensor in (tensors or weights()).items():
        writer.add_tensor(name, tensor)
    _write(writer)
    return path


def lora(seed: int = 7, rank: int = 4) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Factors (A: rank by columns, B: rows by rank) for the tensors of the first layer's attention output and MLP."""
    random = np.random.default_rng(seed)
    shapes = {"blk.0.attn_output.weight": (WIDTH, WIDTH), "blk.1.ffn_down.weight": (WIDTH, INNER)}
    return {
        name: (
            random.standard_normal((rank, columns)).astype(np.float32) * 0.3,
            random.standard_normal((rows, rank)).astype(np.float32) * 0.3,
        )
        for name, (rows, columns) in shapes.items()
    }


def write_adapter(path: Path, alpha: float = 8.0) -> Path:
    """Write `lora` as an adapter for llama.cpp."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, (a, b) in lora().items():
        writer.add_tensor(name + ".lora_a", a)
        writer.add_tensor(name + ".lora_b", b)
    _write(writer)
    return path


def merged(alpha: float = 8.0) -> dict[str, np.ndarray]:
    """The weights with the adapter added: the independent reference."""
    tensors = weights()
    for name, (a, b) in lora().items():
        tensors[name] = tensors[name] + (alpha / a.shape[0]) * (b @ a)
    return tensors


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_expert(folder: Path, *kinds: str) -> Path:
    """An expert without the stages: of its artefacts only the export stands, with a file of each kind, the last of
    which is the default. Returns `folder`."""
    export = folder / "artefacts" / "export"
    export.parent.mkdir(parents=True)
    files = {kind: f"model-{kind}.gguf" for kind in kinds}
    with making("export", export, version=1, inputs={}, settings={}) as draft:
        for seed, name in enumerate(files.values()):
            write_model(draft.path / name, weights(5 * seed))
        draft.facts |= {"system": "the hand", "stop": ["</s>"], "context_length": CONTEXT}
        draft.facts |= {"files": files, "default": kinds[-1]}
    return folder
