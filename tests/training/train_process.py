"""Trains a small model on the text file given, in the run directory given; a test kills it at any moment.

python train_process.py RUN TEXT STEPS [SEED]
"""

import os
import sys

from mamba_slm.training.config import TrainConfig
from mamba_slm.training.run import train

SMALL = (
    "hidden_size=32", "num_heads=2", "num_kv_heads=1", "feed_forward_size=48", "state_size=16", "ssm_head_dim=16",
    "chunk_size=16",
)  # fmt: skip


def config(text, steps, seed=0):
    return TrainConfig(
        model="nano",
        pattern="M-*-",
        model_settings=SMALL,
        data=(str(text),),
        vocab_size=300,
        context_tokens=32,
        batch_tokens=128,
        max_steps=steps,
        learning_rate=1e-2,
        precision="fp32",
        device="cpu",
        threads=1,
        seed=seed,
        save_every_steps=5,
        validate_every_steps=10,
        validation_tokens=256,
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run, text, steps, *rest = sys.argv[1:]
    train(config(text, int(steps), *map(int, rest)), run=run, resume="auto", command=["mamba-slm", "train"])
    print("finished")
