"""What the enhancements list as done, point by point: decoding and smaller formats."""

from __future__ import annotations

from typing import Any

from origins.row import Row, Section, file, gives, row, says
from origins.workshop import Workshop

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


def streamed(workshop: Workshop) -> bool:
    """Whether a callback gets the text piece by piece."""
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.text import generate_text

    workshop.outcome("runs show runs/base")
    model, pieces = load("runs/base", runtime="torch"), []
    texts, _ = generate_text(
        model.runtime,
        model.tokenizer,
        ["def"],
        max_new_tokens=4,
        on_text=lambda event: pieces.append(event.text),
    )
    return len(pieces) == texts[0].num_tokens and "".join(pieces) == texts[0].text


def reduced(format_name: str, share: float):
    """The format's file is at most this share of bfloat16's."""
    return lambda seen: seen.json["formats"][format_name]["size"]["memory_ratio"] <= share


DECODING = (
    writes("--beams 2", "Beam Search", "Beam search with configurable beams", here="`--beams 4`"),
    writes(
        "--contrastive-k 4",
        "Contrastive Search",
        "Contrastive search",
        here="`--contrastive-k 4 --contrastive-alpha 0.6`",
    ),
    writes(
        "--top-p 0.9",
        "Improved Nucleus Sampling",
        "Top-k and top-p sampling",
        here="`--top-p 0.9`",
        note="also `--min-p`, `--typical-p`",
    ),
    writes("--top-k 5", "Top-k filtering", here="`--top-k 50`"),
    writes(
        "--temperature 0.7",
        "Temperature scaling",
        "Configurable generation parameters",
        "Single-prompt generation",
        here='`mamba-slm generate RUN "PROMPT" --temperature 0.7`',
    ),
    writes(
        "--repetition-penalty 1.2",
        "Repetition penalty",
        here="`--repetition-penalty 1.2`",
        note="also frequency and presence penalties",
    ),
    writes("--length-penalty 0.5 --beams 2", "Length penalty", here="`--length-penalty 0.5 --beams 4`"),
    row(
        "Early stopping",
        here="`--early-stopping full --beams 4`",
        run=f"{WRITE} --beams 2 --early-stopping full",
        holds=lambda seen: seen.json["settings"]["early_stopping"] == "full",
    ),
    row(
        "Token-by-token streaming generation",
        "Streaming generation",
        "Token-by-token output",
        "Real-time display",
        "Integrated with all sampling methods",
        here="nothing: `generate` and `chat` write as tokens come; `--no-stream` waits",
        note="a search shows its text when it has won",
        run="generate runs/base def --max-new-tokens 4 --runtime torch --seed 3",
        holds=lambda seen: bool(seen.out.strip("\n")),
    ),
    row(
        "Callback support",
        here="`generate_text(…, on_text=function)` of `mamba_slm.generation.text`",
        note="or a loop: `for event in stream_text(tokens, tokenizer)`",
        run=streamed,
        holds=lambda seen: bool(seen.value),
    ),
    row("Interactive chat interface", here="`mamba-slm chat RUN`", run="chat --help", holds=says("--save")),
    row(
        "Evaluation and benchmarking tools",
        "Performance benchmarking",
        here="`mamba-slm eval`, `mamba-slm score`, `mamba-slm bench`",
        run="score texts.jsonl --json",
        holds=gives("references.bleu", "references.rouge.rougeL"),
    ),
)

SMALLER = (
    row(
        "8-bit quantization",
        here="`mamba-slm quantize RUN --to int8`",
        note="0.53 of bfloat16 with its scales",
        run=FORMATS,
        holds=reduced("int8", 0.57),
    ),
    row(
        "4-bit quantization",
        here="`mamba-slm quantize RUN --to int4`",
        note="0.28 of bfloat16 with its scales, where the original says 0.25 of it",
        run=FORMATS,
        holds=reduced("int4", 0.33),
    ),
    row(
        "NF4 and FP4 support",
        here="`mamba-slm quantize RUN --to nf4`, `--to fp4`",
        run=FORMATS,
        holds=gives("formats.nf4", "formats.fp4"),
    ),
    row(
        "Double quantization",
        here="`mamba-slm quantize RUN --to nf4 --double`",
        run="quantize runs/base --to nf4 --double --dry-run --json",
        holds=lambda seen: seen.json["quantization"]["default"]["double"] is True,
    ),
    row(
        "Dynamic quantization",
        here="`mamba-slm quantize RUN --to int8-dynamic`",
        run=FORMATS,
        holds=gives("formats.int8-dynamic"),
    ),
    row(
        "Model size comparison tools",
        here="`mamba-slm quantize RUN --compare int8,int4,nf4`",
        run=FORMATS,
        holds=lambda seen: len(seen.json["formats"]) == 5,
    ),
    row(
        "Full ONNX export with optimization",
        "ONNX export utilities",
        "ONNX Runtime inference",
        here="`mamba-slm export onnx RUN --out FOLDER`, then `mamba-slm generate FOLDER TEXT`",
        run="generate base-onnx def --max-new-tokens 4 --json",
        holds=lambda seen: "onnxruntime" in seen.json["runtime"],
    ),
    row(
        "Dynamic batch size and sequence length",
        "Model verification",
        here="nothing: every export is read whole, in pieces, by one token, and padded, before it is kept",
        run="verify runs/base base-onnx --tokens 16 --json",
        holds=lambda seen: seen.json["equal"],
    ),
    row(
        "Cross-platform deployment support",
        "Hardware acceleration",
        here="`--provider cuda` of an ONNX folder; GGUF for llama.cpp: `mamba-slm export gguf RUN --out m.gguf`",
        note="ONNX Runtime and llama.cpp ran here on CPUs; GPUs, NPUs and browsers are untried",
        run="export gguf runs/base --out base.gguf --json",
        holds=file("base.gguf"),
    ),
)

SECTIONS = (Section(title="What the enhancements list: decoding, smaller formats", rows=(*DECODING, *SMALLER)),)
