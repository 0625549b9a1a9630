"""What the summary lists: the model's parts, sharding, the training loop, the evaluation."""

from __future__ import annotations

from origins.row import TRAIN, Row, Section, file, gives, model, row, setting
from origins.rows_models import ASK, PERPLEXITY, SPEED
from origins.rows_scale import CLUSTER
from origins.workshop import NANO, QUIETLY

LARGE = "train 1.3B --data shards --max-steps 1 --dry-run --json"
ATTENTION_OF_24 = [1, 2, 6, 11, 16, 21, 22, 23]
RESUMED = f"train nano --data shards {NANO} {QUIETLY} --max-steps 2 --resume auto --out runs/auto --json"


def attention_layers(pattern: str) -> list[int]:
    """Numbers of the mixers that are attention."""
    return [number for number, mixer in enumerate(pattern.replace("-", "")) if mixer == "*"]


def zero_stage(stage: int, note: str) -> Row:
    """A stage of ZeRO."""
    return row(
        f"ZeRO Stage {stage}",
        here=f"`--engine deepspeed --zero-stage {stage}`",
        note=note,
        run=f"{CLUSTER} --nproc 8 --engine deepspeed --zero-stage {stage}",
        holds=lambda seen: seen.json["estimate"]["spread"]["zero_stage"] == stage,
    )


PARTS = (
    row(
        "Grouped Query Attention",
        here="4 or 8 heads of keys and values, as published: `mamba-slm models describe 1.3B`",
        run=LARGE,
        holds=model(num_heads=16, num_kv_heads=4),
    ),
    row("Rotary Position Embeddings", here="the default", run=LARGE, holds=model(position="rope")),
    row(
        "SwiGLU Activation",
        here="the letter `-` of a pattern; `portable` has one after every mixer, `classic` after attention only",
        note="published: four times the width; `portable` spreads as many parameters over all layers",
        run=LARGE,
        holds=lambda seen: seen.json["model"]["pattern"].count("-") == 24,
    ),
    row(
        "Flash Attention 2",
        here="nothing: PyTorch's attention, FlashAttention on a GPU for one document, FlexAttention for packed ones",
        note="untried on a GPU; [the guide](guides/gpu.md)",
        run=TRAIN,
        holds=setting(kernels="auto"),
    ),
    row(
        "Strategic Layer Placement",
        here="the default, `--placement early-mid-top`; also `even`, `top`, or a list of layers",
        run=LARGE,
        holds=lambda seen: attention_layers(seen.json["model"]["pattern"]) == ATTENTION_OF_24,
    ),
    row("Gradient Checkpointing", here="`--gradient-checkpointing`, the default from 1.3B on",
        run=LARGE, holds=setting(gradient_checkpointing=True)),
    row("Tied Embeddings", here="the default; `--model-settings tie_embeddings=false` for two tables",
        run=f"{TRAIN} --model-settings tie_embeddings=false", holds=model(tie_embeddings=False)),
)  # fmt: skip

SHARDING = (
    zero_stage(1, "moments"),
    zero_stage(2, "gradients, too; the default"),
    zero_stage(3, "weights, too"),
    row(
        "CPU Offloading",
        here="`--offload`, of DeepSpeed and of FSDP",
        run="models estimate 13B --gpus 16 --gpu A100 --engine fsdp --offload --json",
        holds=lambda seen: seen.json["spread"]["offload"] and seen.json["memory"]["optimizer"] == 0,
    ),
    row("Gradient Accumulation", here="follows from `--batch-tokens` and `--micro-batch-rows`",
        run=f"{TRAIN} --batch-tokens 8192 --micro-batch-rows 1", holds=setting(batch_tokens=8192, micro_batch_rows=1)),
    row(
        "Full sharding / Shard grad op / No shard",
        here="`--engine fsdp --sharding full`, `grad_optimizer` or `none`",
        note="PyTorch's FSDP2; groups of N processes with `--shard-processes N`",
        run=f"{CLUSTER} --nproc 8 --engine fsdp --sharding grad_optimizer",
        holds=lambda seen: seen.json["estimate"]["spread"]["sharding"] == "grad_optimizer",
    ),
    row(
        "Auto wrapping by transformer layer", "CPU efficient loading",
        here="nothing to choose: `--engine fsdp` shares out sublayer by sublayer",
        note="only the first process needs all weights at the start",
        run=f"{CLUSTER} --nproc 8 --engine fsdp",
        holds=lambda seen: seen.json["estimate"]["memory"]["gathered"] > 0,
    ),
    row(
        "State dict management",
        here="`--save-mode whole` or `sharded`; a run goes on with another engine and number of processes",
        run=f"{TRAIN} --save-mode sharded",
        holds=setting(save_mode="sharded"),
    ),
)  # fmt: skip

LOOP = (
    row("BF16 mixed precision", here="`--precision bf16`", note="weights and moments stay float32",
        run=f"{LARGE} --precision bf16", holds=setting(precision="bf16")),
    row("Cosine learning rate schedule with warmup", here="the default; `--warmup-share 0.02`",
        run=TRAIN, holds=setting(schedule="cosine", warmup_share=0.02)),
    row("Gradient clipping", here="`--clip-norm 1.0`, the default", run=TRAIN, holds=setting(clip_norm=1.0)),
    row("AdamW optimizer with weight decay", here="the default; also `adamw8bit` and `muon`",
        run=TRAIN, holds=setting(optimizer="adamw", weight_decay=0.1)),
    row("WandB + TensorBoard logging", here="`--log wandb --log tensorboard`",
        run=f"{TRAIN} --log wandb --log tensorboard", holds=setting(log=["wandb", "tensorboard"])),
    row("Best checkpoint tracking", here="nothing: the best one by validation is kept, and is `RUN/model`",
        run=RESUMED, holds=gives("best_checkpoint")),
    row(
        "Automatic resumption from checkpoints",
        here="`mamba-slm train PRESET --data FOLDER --out RUN --resume auto`",
        note="begins, or goes on where it was; Slurm and Ray jobs do so by themselves",
        run=RESUMED,
        holds=lambda seen: seen.json["step"] == 2,
    ),
)  # fmt: skip

MEASURES = (
    row("Perplexity", here="`mamba-slm eval RUN --perplexity FILE`", run=PERPLEXITY,
        holds=gives("texts.0.token_perplexity", "texts.0.word_perplexity")),
    row("Inference speed", "Memory efficiency", here="`mamba-slm eval RUN --task benchmark`", run=SPEED,
        holds=gives("speeds.0.decode_tokens_per_second", "speeds.0.peak_memory_bytes")),
    row("Per-sample detailed results", "JSON export for analysis",
        here="`results.json` and `answers.jsonl` of `--out DIR`", run=ASK,
        holds=file("scores/results.json", "scores/answers.jsonl")),
    row("Language detection", "Quality scoring", "Content filters",
        here="`mamba-slm data curate`, with every removed document and its reason: `--keep-rejects`",
        run="data inspect curated --json", holds=file("curated/funnel.json", "curated/report.html")),
)  # fmt: skip

SECTIONS = (
    Section(
        title="What the summary lists",
        about="Parts of the model, sharing it over devices, the training loop, what is measured.",
        rows=(*PARTS, *SHARDING, *LOOP, *MEASURES),
    ),
)
