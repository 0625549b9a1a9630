"""What a run says and keeps while it trains."""

from __future__ import annotations

from origins.row import TRAIN, row, setting

WATCH = (
    row(
        "train.py --logging_steps",
        here="`--log-every-steps 5`",
        note="lines on the screen; `metrics.jsonl` has every step",
        run=f"{TRAIN} --log-every-steps 5",
        holds=setting(log_every_steps=5),
    ),
    row(
        "train.py --save_steps",
        "production_train.py --save_steps",
        here="`--save-every-steps 1000`",
        note="also `--save-every-minutes`, `--keep-last`, `--milestone-every-steps`",
        run=f"{TRAIN} --save-every-steps 1000",
        holds=setting(save_every_steps=1000),
    ),
    row(
        "production_train.py --eval_steps",
        here="`--validate-every-steps 1000`, and `--benchmarks hellaswag,piqa --benchmark-every-steps 5000`",
        run=f"{TRAIN} --validate-every-steps 1000 --benchmarks hellaswag,piqa --benchmark-every-steps 5000",
        holds=setting(validate_every_steps=1000, benchmark_every_steps=5000, benchmarks=["hellaswag,piqa"]),
    ),
    row(
        "production_train.py --report_to",
        "wandb",
        here="`--log wandb`, `--log tensorboard` or `--log trackio`",
        note="`pip install 'mamba-slm[track]'`; online only where somebody is logged in; `metrics.jsonl` and "
        "`report.html` are always written",
        run=f"{TRAIN} --log wandb",
        holds=setting(log=["wandb"]),
    ),
    row(
        "advice --profile_steps",
        here="`--profile-steps 10:20`",
        note="a trace and tables of where time goes, in `RUN/profile`",
        run=f"{TRAIN} --profile-steps 1:2 --max-steps 4",
        holds=setting(profile_steps="1:2"),
    ),
)
