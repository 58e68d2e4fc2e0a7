"""What a person may say of a training, each once: TrainSettings."""

from __future__ import annotations

from dataclasses import dataclass

from werkmeister.config import setting


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """QLoRA: the base frozen (in 4-bit NF4 on a GPU), low-rank adapters trained on the answers."""

    rank: int = setting(0, help="rank of the adapters; 0: by the number of examples", low=0, high=1024)
    alpha: float = setting(
        0.0, help="the adapters' product is scaled by alpha / rank; 0: twice the rank, or 8 with rslora", low=0
    )
    rslora: bool = setting(False, help="scale by alpha / √rank instead (rank-stabilised LoRA)")
    targets: tuple[str, ...] = setting(
        ("q_proj", "k_proj", "v_proj", "o_proj"), help='linear layers that get an adapter, or ["all-linear"]'
    )
    dropout: float = setting(0.0, help="dropout in front of the adapters", low=0.0, high=0.9)
    learning_rate: float = setting(
        0.0, help="peak learning rate of AdamW; 0: by the width of the base and the number of examples", low=0, high=1.0
    )
    schedule: str = setting(
        "cosine", help="course of the learning rate", choices=("cosine", "linear", "constant_with_warmup")
    )
    warmup: float = setting(0.03, help="share of the steps in which the learning rate rises", low=0.0, high=0.9)
    weight_decay: float = setting(0.0, help="weight decay of AdamW", low=0.0, high=1.0)
    neftune: float = setting(
        0.0, help="noise on the embeddings while training (alpha of NEFTune, usually 5); 0: none", low=0, high=100
    )
    epochs: float = setting(
        0.0, help="how often each example is seen; may be a fraction; 0: by the number of examples", low=0, high=1000
    )
    batch_size: int = setting(16, help="learnt from in one step", unit="examples", low=1, high=4096)
    micro_batch: int = setting(
        0, help="computed at once; 0: derived from the length of the examples", unit="examples", low=0
    )
    precision: str = setting(
        "auto",
        help="of the frozen base; auto: nf4 on a GPU, and on a CPU bf16 where it has it, else fp32",
        choices=("auto", "nf4", "bf16", "fp16", "fp32"),
    )
    evaluations: int = setting(8, help="times the validation split is looked at and a checkpoint is kept", low=1)
    select: str = setting(
        "auto",
        help="what the best checkpoint is chosen by: the exam's mark on validation answers, or the validation loss; "
        "auto: the mark where it costs at most a tenth of the training",
        choices=("auto", "mark", "loss"),
    )
    patience: int = setting(
        3, help="the training ends after so many evaluations without a better checkpoint; 0: never early", low=0
    )
    replay: float = setting(
        0.0,
        help="general examples against forgetting (dataset.replay, or else the base's own answers)",
        unit="share of all examples",
        low=0,
        high=0.5,
    )
    seed: int = setting(0, help="seed of adapters, order and dropout", low=0)
    memory: float = setting(
        0.0,
        help="of the GPU that training keeps to; 0: what is free; changing it makes nothing stale",
        unit="GB",
        low=0,
        decides=False,
    )
    report_to: str = setting(
        "none",
        help="a tracker that gets the curves as well; each needs its package, and what it sends must be allowed by "
        "[policy]; changing it makes nothing stale",
        choices=("none", "tensorboard", "mlflow", "trackio", "wandb"),
        decides=False,
    )
