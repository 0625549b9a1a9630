"""Fine-tuning: train.py --use_lora and instruction_finetune.py."""

from __future__ import annotations

from origins.row import TUNE, Section, file, gives, row, says, setting

LORA = (
    row(
        "train.py --use_lora",
        "instruction_finetune.py --use_lora",
        here="`mamba-slm finetune RUN --data FILE`",
        note="LoRA is its default `--method`; `qlora` and `full` are the others",
        run=TUNE,
        holds=setting(method="lora"),
    ),
    row(
        "train.py --lora_r",
        "instruction_finetune.py --lora_r",
        here="`--rank 8`",
        run=f"{TUNE} --rank 8",
        holds=setting(rank=8),
    ),
    row(
        "train.py --lora_alpha",
        "instruction_finetune.py --lora_alpha",
        here="`--alpha 16`",
        run=f"{TUNE} --alpha 16",
        holds=setting(alpha=16.0),
    ),
    row("train.py --lora_dropout", here="`--dropout 0.05`", run=f"{TUNE} --dropout 0.05", holds=setting(dropout=0.05)),
    row(
        "instruction_finetune.py",
        "instruction_finetune.py --base_model",
        here="`mamba-slm finetune RUN --data FILE`",
        note="RUN is a run, a checkpoint or a model folder; loss on answers only, examples packed without leakage",
        run="runs show runs/lora --json",
        holds=lambda seen: seen.json["state"] == "done" and file("runs/lora/adapter/adapter_model.safetensors")(seen),
    ),
    row(
        "instruction_finetune.py --dataset",
        here="`--data HuggingFaceH4/ultrachat_200k`, a file or a folder",
        note="the form (messages, alpaca, sharegpt, …) is told by the records",
        run=TUNE,
        holds=says("alpaca form"),
    ),
    row(
        "instruction_finetune.py --max_steps",
        here="`--max-steps 10000` or `--epochs 2`",
        run=f"{TUNE} --max-steps 10000",
        holds=setting(max_steps=10000),
    ),
    row(
        "instruction_finetune.py --output_dir",
        here="`--out RUN`",
        note="the adapter is `RUN/adapter`; `--merge` also writes `RUN/model`",
        run="generate runs/lora Say --max-new-tokens 3 --runtime torch --json",
        holds=gives("runtime"),
    ),
)

SECTIONS = (
    Section(
        title="Fine-tuning",
        rows=LORA,
        blocks=(
            (
                "train.py --use_lora",
                "mamba-slm finetune runs/base --data FILE.jsonl --rank 8 --alpha 16 --dropout 0.05 --learning-rate "
                "1e-4 "
                "--max-steps 15 --out runs/lora",
            ),
            (
                "instruction_finetune.py",
                "mamba-slm finetune runs/1.3b --data HuggingFaceH4/ultrachat_200k --rank 64 --alpha 128 --max-steps "
                "10000 "
                "--out runs/instruct",
            ),
        ),
    ),
)
