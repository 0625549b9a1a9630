"""What the enhancements list as done, point by point."""

from __future__ import annotations

from typing import Any

from origins.row import TRAIN, TUNE, Row, Section, file, gives, model, row, says, setting
from origins.workshop import NANO, QUIETLY, Workshop

WRITE = "generate runs/base def --max-new-tokens 4 --runtime torch --json"
FORMATS = (
    "quantize runs/base --compare int8,int4,nf4,fp4,int8-dynamic --sensitivity none --no-speed --text text/00.txt "
    "--text-tokens 256 --json"
)
TIMES = "--task benchmark --num-runs 2 --lengths 16 --batches 1 --new-tokens 4 --json"
CLAIM = "a claim; what was measured: [the roadmap](roadmap.md#claims)"


def writes(flags: str, *was: str, here: str, note: str = "") -> Row:
    """A way of decoding: the flags are accepted and a text comes out."""
    name, value = flags.split()[:2]

    def holds(seen: Any) -> bool:
        settings, texts = seen.json["settings"], seen.json["completions"]
        return bool(texts) and settings[name[2:].replace("-", "_")] == (float(value) if "." in value else int(value))

    return row(*was, here=here, note=note, run=f"{WRITE} {flags}", holds=holds)


def streamed(workshop: Workshop) -> list[str]:
    """Texts as they come, through a callback of one's own: a loop."""
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.request import Request  # noqa: F401  (named on the page)

    workshop.outcome("runs show runs/base")
    return [type(load("runs/base", runtime="torch")).__name__]


def reduced(format_name: str, share: float):
    """The format's file is at most this share of bfloat16's."""
    return lambda seen: seen.json["formats"][format_name]["size"]["memory_ratio"] <= share


DATA = (
    row(
        "HuggingFace datasets",
        "Support for C4, RedPajama, WikiText, OpenWebText",
        "Full pre-training support with real datasets",
        here="`mamba-slm data sources` and `mamba-slm data download c4 --tokens 1B --out c4`",
        run="data sources --json",
        holds=says('"c4"', '"redpajama"', '"wikitext"', '"openwebtext"'),
    ),
    row(
        "Local files",
        here="`--data FILE`: text, JSON, JSON Lines, Parquet, CSV, WARC, dumps; also compressed",
        run="data inspect text/00.txt --json",
        holds=says("num_documents"),
    ),
    row(
        "Directory scanning with pattern matching",
        here="`--data src/ --data-pattern '*.py,!*_old.py'`",
        run="data inspect text --pattern '0*.txt' --json",
        holds=lambda seen: seen.json["text"]["num_documents"] == 10,
    ),
    row(
        "Custom dataset mixing with weights",
        "Multiple dataset mixing",
        here="`--data web=web-tokens:0.7 --data code=code-tokens:0.3`",
        note="after any number of rows each source is within one row of its weight",
        run="data mix a=shards:0.7 b=shards:0.3 --context-tokens 64 --tokens 10k --out mixture.yaml --json",
        holds=lambda seen: [source["share"] for source in seen.json["sources"]] == [0.7, 0.3],
    ),
    row(
        "Automatic caching and preprocessing",
        "Efficient data loading and caching",
        "Streaming for very large datasets",
        here="`mamba-slm data tokenize FOLDER --tokenizer TOKENIZER --out tokens`, once",
        note="shards are mapped, so their size does not matter; text straight to `train --data` is tokenized first",
        run="data inspect shards --json",
        holds=file("shards/train/shards.json"),
    ),
)

TRAINING = (
    row(
        "Command-line training script with all features",
        here="`mamba-slm train`",
        run="train --help",
        holds=says("--learning-rate", "--dry-run"),
    ),
    row(
        "Fine-tuning from checkpoints",
        "Parameter-efficient fine-tuning",
        here="`mamba-slm finetune RUN/checkpoints/step-00000004 --data FILE`",
        run=TUNE.replace("runs/base", "runs/base/checkpoints/step-00000004"),
        holds=gives("plan"),
    ),
    row(
        "LoRA/QLoRA for efficient adaptation",
        "QLoRA",
        here="`mamba-slm finetune RUN --data FILE --method qlora`",
        run=f"{TUNE} --method qlora --device cpu",
        holds=setting(method="qlora"),
    ),
    row(
        "Full LoRA implementation",
        "0.1-1% trainable parameters",
        here="`mamba-slm finetune RUN --data FILE --rank 8`",
        note="a model this small gives a larger share; the plan counts it: `--dry-run`",
        run="runs show runs/lora --json",
        holds=file("runs/lora/adapter/adapter_model.safetensors"),
    ),
    row(
        "Gradient accumulation and mixed precision",
        here="`--batch-tokens`, `--micro-batch-rows`, `--precision bf16`",
        run=f"{TRAIN} --batch-tokens 4096 --micro-batch-rows 1 --precision bf16",
        holds=setting(batch_tokens=4096, micro_batch_rows=1),
    ),
    row(
        "Resume from checkpoint support",
        here="`mamba-slm train --resume RUN`",
        note="to the same bits as a run that was not interrupted",
        run="train --resume runs/resumed --max-steps 3 --json",
        holds=lambda seen: seen.json["step"] == 3,
    ),
    row(
        "LoRA weight merging",
        here="`mamba-slm adapters merge RUN --into base --out merged`",
        run="adapters merge runs/lora --into base --out merged --json",
        holds=file("merged/model.safetensors"),
    ),
    row(
        "Separate LoRA weight saving/loading",
        here="`RUN/adapter`, a folder of PEFT; `--adapter RUN` of every command",
        run=f"{WRITE} --adapter runs/lora",
        holds=gives("completions.0"),
    ),
    row(
        "Multiple adapter support",
        here="`mamba-slm serve MODEL --adapter-dir adapters`, or `--adapter A=0.7 --adapter B=0.3`",
        run=f"{WRITE} --adapter runs/lora=0.7 --adapter runs/lora=0.3",
        holds=gives("completions.0"),
    ),
    row(
        "Quantization-aware training",
        here="`mamba-slm train --qat int4`, also `finetune --method full --qat int4`",
        run=f"train nano --data shards {NANO} {QUIETLY} --qat int8 --max-steps 1 --out runs/qat --json",
        holds=file("runs/qat/model/model.safetensors"),
    ),
    row(
        "Performance profiling",
        here="`--profile-steps 10:20`",
        run=f"train nano --data shards {NANO} {QUIETLY} --profile-steps 2:3 --max-steps 3 --out runs/profiled --json",
        holds=lambda seen: any((seen.here / "runs/profiled/profile").iterdir()),
    ),
)

CONTEXT = (
    row("RoPE", here="the default: `position=rope`", run=TRAIN, holds=model(position="rope")),
    row(
        "ALiBi",
        here="`--model-settings position=alibi`",
        run=f"{TRAIN} --model-settings position=alibi",
        holds=model(position="alibi"),
    ),
    row(
        "Sliding Window Attention",
        here="`--model-settings attention_window=1024`",
        run=f"{TRAIN} --model-settings attention_window=1024",
        holds=model(attention_window=1024),
    ),
    row(
        "Seamless context length upgrade",
        here="`mamba-slm extend RUN --to 4x --data books/`, or `--context-tokens 4096` when writing",
        note="measured by position before and after",
        run=f"{WRITE} --context-tokens 512",
        holds=gives("completions.0"),
    ),
    row(
        "Memory-optimized implementations",
        "Chunked attention for very long sequences",
        "40-60% memory reduction",
        here="nothing: memory of the scan and of attention grows linearly with the length",
        note="tests count it; the share depends on the length",
        run="models estimate 1.3B --gpus 1 --json",
        holds=lambda seen: seen.json["sequence_bytes"] < seen.json["attention_only_sequence_bytes"],
    ),
    row(
        "Flash Attention 2 integration",
        "Automatic fallback to memory-efficient attention",
        here="nothing: each kernel is tested at the start, and what is used is said once with its reason",
        run="doctor --no-measure --json",
        holds=says("attention"),
    ),
    row("2-3x training speedup", here="`mamba-slm bench`", note=CLAIM, run="bench --help", holds=says("--crossover")),
)

SECTIONS = (
    Section(
        title="What the enhancements list",
        about="Under their own words, which are shortened where they say the same twice.",
        rows=(*DATA, *TRAINING, *CONTEXT),
    ),
)
