"""One folder with small things of every kind, each made when a row first names it: text, shards, runs, exports."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.harness.benchmark_files import write_questions
from mamba_slm.cli.main import main
from origins.row import Seen

NANO = (
    "--pattern M-*-M- --model-settings hidden_size=64 --model-settings num_heads=2 --model-settings num_kv_heads=1 "
    "--model-settings feed_forward_size=96 --model-settings state_size=16 --model-settings ssm_head_dim=32 "
    "--model-settings max_context_tokens=512 "
    "--context-tokens 128 --batch-tokens 256"
)
"""`nano`, smaller still."""
QUIETLY = "--sample-every-steps 0 --precision fp32 --kernels torch --device cpu"
SHORT = f"{QUIETLY} --context-tokens 96 --batch-tokens 192 --max-steps 2 --rank 8"
STAGES = {
    "tok": "data train-tokenizer text --vocab-size 320 --out tok",
    "shards": "data tokenize text --tokenizer tok --validation-share 0.25 --workers 1 --out shards",
    "runs/base": f"train nano --data shards {NANO} {QUIETLY} --max-steps 4 --validation-tokens 512 --out runs/base",
    "runs/lora": f"finetune runs/base --data words.jsonl {SHORT} --alpha 16 --dropout 0.05 --out runs/lora",
    "runs/resumed": f"train nano --data shards {NANO} {QUIETLY} --max-steps 2 --out runs/resumed",
    "small-int8": "quantize runs/base --to int8 --no-speed --sensitivity none --text text/00.txt --text-tokens 512 "
    "--out small-int8 --json",
    "base-onnx": "export onnx runs/base --out base-onnx --json",
    "curated": "data curate text --kind code --workers 1 --drop-share 0.3 --out curated --json",
}
"""Folder -> the command that makes it. A command may name folders of others."""
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
DS_CONFIG = {
    "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True},
    "gradient_clipping": 1.0,
    "train_batch_size": 16,
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 4,
}


class Workshop:
    """Runs commands in its folder and remembers what came of each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.seen: dict[str, Seen] = {}
        self.values: dict[str, Any] = {}
        write_inputs(folder)

    def outcome(self, run: str | Callable[[Workshop], Any]) -> Seen:
        """What a row's command left behind; the same command runs once."""
        with contextlib.chdir(self.folder):
            if callable(run):
                return Seen(here=self.folder, value=run(self))
            return self.command(run)

    def command(self, line: str) -> Seen:
        """Run a command after the stages whose folders it names."""
        if line not in self.seen:
            for name, stage in STAGES.items():
                if stage != line and any(part == name or f"{name}/" in part for part in shlex.split(line)):
                    made = self.command(stage)
                    assert made.code == 0, f"mamba-slm {stage}\n{made.err}"
            self.seen[line] = in_process(line, self.folder)
        return self.seen[line]


def in_process(line: str, folder: Path) -> Seen:
    """`mamba-slm LINE`, without a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(line))
    return Seen(here=folder, code=code, out=out.getvalue(), err=err.getvalue())


def write_inputs(folder: Path) -> None:
    """Text, examples, pairs, questions, a DeepSpeed file."""
    (folder / "text").mkdir(parents=True)
    pieces = textwrap.wrap(inspect.getsource(argparse), 1500, replace_whitespace=False, drop_whitespace=False)
    for number, piece in enumerate(pieces[:40]):
        (folder / f"text/{number:02}.txt").write_text(piece, encoding="utf-8")
    write_lines(folder / "words.jsonl", [{"instruction": f"Say {word}.", "output": word} for word in WORDS])
    write_lines(folder / "pairs.jsonl", [{"prompt": word, "chosen": f"yes {word}", "rejected": "no"} for word in WORDS])
    write_lines(folder / "questions.jsonl", [{"question": f"{number}+1?"} for number in range(6)])
    write_lines(
        folder / "texts.jsonl", [{"text": "a b c d", "reference": "a b c e"}, {"text": "x y", "reference": "x y"}]
    )
    write_questions(folder / "questions")
    (folder / "ds_config.json").write_text(json.dumps(DS_CONFIG), encoding="utf-8")
    refused = {**DS_CONFIG, "bf16": {"enabled": True}}
    (folder / "ds_bf16.json").write_text(json.dumps(refused), encoding="utf-8")


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """JSON Lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
