"""Pretraining: production_launch.py, production_train.py and train.py."""

from __future__ import annotations

from origins.row import TRAIN, Section, file, model, row, says, setting
from origins.rows_watch import WATCH
from origins.workshop import NANO, QUIETLY

BATCH = "a step is stated in tokens: rows × length × devices; how often gradients are accumulated follows from it"
SCRIPTS = row(
    "production_launch.py",
    "production_train.py",
    "train.py",
    here="`mamba-slm train PRESET --data FOLDER`",
    note="one trainer for all sizes and numbers of devices; every run has a folder, and `--resume` goes on with it",
    run="runs show runs/base --json",
    holds=lambda seen: (
        seen.json["state"] == "done"
        and seen.json["step"] == 4
        and file("runs/base/model/model.safetensors", "runs/base/metrics.jsonl", "runs/base/report.html")(seen)
    ),
)

MODEL = (
    row(
        "production_launch.py --model_size",
        "production_train.py --model_size",
        "train.py --model_size",
        here="the first word: `mamba-slm train 1.3B --data FOLDER`",
        note="`mamba-slm models list` shows the sizes",
        run="train 1.3B --data shards --dry-run --json",
        holds=lambda seen: setting(model="1.3B")(seen) and model(hidden_size=2048, num_heads=16)(seen),
    ),
    row(
        "train.py --d_model",
        here="`mamba-slm train nano --data FOLDER --model-settings hidden_size=256 --model-settings num_heads=4`",
        note="any field of the model this way; the published demo (256 wide, 4 layers) is the preset `demo`",
        run=f"{TRAIN} --model-settings hidden_size=256 --model-settings num_heads=4",
        holds=model(hidden_size=256, num_heads=4),
    ),
    row(
        "train.py --n_layers",
        here="`mamba-slm train nano --data FOLDER --pattern M-M-*-M-`",
        note="the pattern is the layers: `M` Mamba, `*` attention, `-` feed-forward; or `--attention-share 30%`",
        run=f"{TRAIN} --pattern M-M-*-M-",
        holds=model(pattern="M-M-*-M-"),
    ),
    row(
        "train.py --pretrained_model",
        here="`mamba-slm train --initial RUN --data FOLDER`",
        note="all weights; with `--use_lora` it is `mamba-slm finetune RUN --data FILE`",
        run=f"train nano --initial runs/base --data shards {QUIETLY} --context-tokens 128 --batch-tokens 256 "
        "--max-steps 1 --out runs/again",
        holds=file("runs/again/model/model.safetensors"),
    ),
)

LENGTH = (
    row(
        "production_launch.py --training_config",
        here="`mamba-slm train quick_test --data FOLDER`; for another size `mamba-slm train 350M --config quick_test "
        "--data FOLDER`",
        note="with a size of your own, the run's batch, length and schedule are taken, and not its model",
        run=f"train nano --config quick_test --data shards {NANO} {QUIETLY} --max-steps 2 --out runs/quick --json",
        holds=lambda seen: seen.json["step"] == 2 and file("runs/quick/model/model.safetensors")(seen),
    ),
    *(
        row(
            name,
            here=f"`mamba-slm train {name} --data FOLDER`, and what it takes: `mamba-slm models estimate {name}`",
            note=note,
            run=f"train {name} --data shards --dry-run --json",
            holds=setting(model=size, max_steps=steps, batch_tokens=rows * 2048),
        )
        for name, size, rows, steps, note in (
            (
                "quick_test",
                "1.3B",
                4,
                1_000,
                "1.3B; for a test of the pipeline `--config quick_test` with a small size is enough",
            ),
            ("small_scale", "1.3B", 64, 50_000, "1.3B, 4 GPUs"),
            (
                "medium_scale",
                "2.7B",
                256,
                100_000,
                "2.7B; readme and commands name it with 1.3B: `train 1.3B --config medium_scale`",
            ),
            ("large_scale", "6.7B", 256, 150_000, "6.7B, 8 GPUs"),
            ("xlarge_scale", "13B", 256, 200_000, "13B, 8 GPUs"),
        )
    ),
    row(
        *(f"{script} --max_steps" for script in ("production_launch.py", "production_train.py", "train.py")),
        "Max Steps",
        here="`--max-steps 20`, `--max-tokens 2M` or `--max-minutes 10`, whichever comes first",
        run=f"{TRAIN} --max-steps 20",
        holds=setting(max_steps=20),
    ),
    row(
        "train.py --num_train_epochs",
        here="nothing: without a limit a run is one pass over the data; more with `--max-tokens`",
        note="`finetune` has `--epochs`; the demo's 20 steps went over 50 texts several times, whatever "
        "`--num_train_epochs 1` said",
        run="train nano --data shards --dry-run",
        holds=says("one pass over the data"),
    ),
    row(
        "production_launch.py --data_path",
        "production_train.py --data_path",
        here="`--data FOLDER`, or `--data web=web-tokens:0.7 --data code=code-tokens:0.3`, or the file of `mamba-slm "
        "data mix`",
        note="text or token shards",
        run=f"{TRAIN} --max-steps 2",
        holds=setting(data=["shards"]),
    ),
    row(
        *(f"{script} --output_dir" for script in ("production_launch.py", "production_train.py", "train.py")),
        here="`--out DIR`",
        note="the model is `DIR/model`; commands take DIR itself",
        run=f"{TRAIN} --out runs/mine",
        holds=lambda seen: seen.json["run"] == "runs/mine",
    ),
    row(
        "production_train.py --run_name",
        here="`--out runs/mamba-slm-1.3b-production`",
        note="a run is called as its folder",
        run=f"{TRAIN} --out runs/mamba-slm-1.3b-production",
        holds=lambda seen: seen.json["run"].endswith("mamba-slm-1.3b-production"),
    ),
)

STEP = (
    row(
        "train.py --batch_size",
        *(
            f"{script} --per_device_batch_size"
            for script in ("production_launch.py", "production_train.py", "train.py")
        ),
        "advice --per_device_batch_size",
        "train_micro_batch_size_per_gpu",
        here="`--micro-batch-rows 2`",
        note=f"changes memory and speed, not what is learned; `--auto-fit` chooses it. {BATCH}",
        run=f"{TRAIN} --micro-batch-rows 2",
        holds=setting(micro_batch_rows=2),
    ),
    row(
        *(
            f"{script} --gradient_accumulation_steps"
            for script in ("production_launch.py", "production_train.py", "train.py")
        ),
        "advice --gradient_accumulation_steps",
        "gradient_accumulation_steps",
        "Batch Size",
        "train_batch_size",
        here="`--batch-tokens 1Mi`",
        note=f"{BATCH}: 512 rows × 2,048 tokens are 1Mi",
        run=f"{TRAIN} --batch-tokens 1Mi",
        holds=setting(batch_tokens=1 << 20),
    ),
    row(
        "Sequence Length",
        here="`--context-tokens 2048`",
        run=f"{TRAIN} --context-tokens 2048 --batch-tokens 4096",
        holds=setting(context_tokens=2048),
    ),
    row(
        "train.py --learning_rate",
        "production_train.py --learning_rate",
        "advice --learning_rate",
        "Learning Rate",
        here="`--learning-rate 3e-4`",
        note="each size brings its own; the original's 3e-4 at 1.3B is that of `production`",
        run=f"{TRAIN} --learning-rate 3e-4",
        holds=setting(learning_rate=3e-4),
    ),
    row(
        "production_train.py --warmup_steps",
        "advice --warmup_steps",
        "warmup_steps=5000",
        "Warmup Steps",
        here="`--warmup-tokens 5.2B` or `--warmup-share 0.05`",
        note="in tokens, so that another batch does not change the schedule: steps × `--batch-tokens`",
        run=f"{TRAIN} --warmup-tokens 20480 --max-steps 100",
        holds=setting(warmup_tokens=20480),
    ),
    row(
        "Schedule",
        here="`--schedule cosine --final-share 0.1`, the default",
        note="also `wsd`, `constant`",
        run=TRAIN,
        holds=setting(schedule="cosine", final_share=0.1),
    ),
    row(
        "Weight Decay",
        here="`--weight-decay 0.1`, the default",
        note="on matrices only",
        run=TRAIN,
        holds=setting(weight_decay=0.1),
    ),
    row(
        "Gradient Clip",
        "gradient_clipping",
        here="`--clip-norm 1.0`, the default",
        run=TRAIN,
        holds=setting(clip_norm=1.0),
    ),
    row(
        "Adam β1, β2", here="`--beta1 0.9 --beta2 0.95`, the defaults", run=TRAIN, holds=setting(beta1=0.9, beta2=0.95)
    ),
    row(
        "train.py --fp16",
        here="`--precision fp16`",
        note="with loss scaling, on a GPU; `auto` takes bf16 where the hardware has it",
        run=f"{TRAIN} --precision fp16",
        holds=setting(precision="fp16"),
    ),
    row(
        "production_train.py --bf16",
        here="`--precision bf16`",
        note="`auto`, the default, takes it where the hardware has it; weights stay float32",
        run=f"{TRAIN} --precision bf16",
        holds=setting(precision="bf16"),
    ),
    row("advice --fp32", here="`--precision fp32`", run=f"{TRAIN} --precision fp32", holds=setting(precision="fp32")),
    row(
        "production_train.py --gradient_checkpointing",
        here="`--gradient-checkpointing`",
        note="the default of 1.3B and above",
        run=f"{TRAIN} --gradient-checkpointing",
        holds=setting(gradient_checkpointing=True),
    ),
)

SECTIONS = (
    Section(
        title="Pretraining",
        about="`production_launch.py` and `production_train.py` are two names of one script in the original documents.",
        rows=(SCRIPTS, *MODEL, *LENGTH, *STEP, *WATCH),
        blocks=(
            (
                "train.py, the demonstration",
                "mamba-slm train demo --data text/ --max-steps 20 --batch-tokens 8192 --learning-rate 5e-4 --out "
                "runs/base",
            ),
            (
                "production_launch.py, quick_test",
                "mamba-slm train quick_test --data wikitext-tokens/ --max-steps 100 --out runs/test",
            ),
            (
                "deepspeed production_launch.py, medium_scale",
                "mamba-slm train 1.3B --config medium_scale --data mixture.yaml --nproc 8 --engine deepspeed --out "
                "runs/1.3b",
            ),
            (
                "deepspeed production_train.py",
                "mamba-slm train production --data tokens/ --nproc 8 --engine deepspeed --deepspeed-config "
                "ds_config.json "
                "--micro-batch-rows 4 --save-every-steps 1000 --validate-every-steps 1000 --log wandb --out "
                "runs/1.3b-production",
            ),
        ),
    ),
)
