"""A model of 20k parameters, settings that train it in a second, and documents whose next token is predictable."""

import dataclasses

import numpy as np
import torch

from mamba_slm.data.loader import BatchLoader, validation_batches
from mamba_slm.data.mixture import Mixture
from mamba_slm.data.shards import ShardWriter, TokenShards
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.trainer import Trainer

TINY = ModelConfig(
    pattern="M-*-",
    vocab_size=64,
    hidden_size=32,
    num_heads=2,
    num_kv_heads=1,
    feed_forward_size=48,
    state_size=16,
    ssm_head_dim=16,
    chunk_size=16,
    max_context_tokens=128,
)
SETTINGS = TrainConfig(
    context_tokens=32,
    batch_tokens=128,
    max_steps=12,
    learning_rate=1e-2,
    precision="fp32",
    device="cpu",
    save_every_steps=4,
    validate_every_steps=4,
    sample_every_steps=4,
    keep_last=2,
    log_every_steps=4,
)


def write_documents(folder, *, count, seed):
    """Documents that count upwards in threes from a random start: easy to learn, and no two alike."""
    random = np.random.default_rng(seed)
    with ShardWriter(folder, tokenizer_fingerprint="test", vocab_size=TINY.vocab_size) as writer:
        for _ in range(count):
            length, start = random.integers(5, 60), random.integers(0, 60)
            writer.append([0, *(4 + (start + 3 * np.arange(length)) % 60), 0], text_bytes=int(length))
    return TokenShards.open(folder)


def trainers_in(folder, train_shards, validation_shards):
    """`make(name, **settings)`: a trainer in the run directory of that name in a folder, new or existing."""

    def make(name="run", *, model=TINY, validation=True, hooks=(), say=None, **settings):
        torch.set_num_threads(1)
        config = dataclasses.replace(SETTINGS, **settings)
        run = RunDirectory(folder / name)
        run.checkpoints_folder.mkdir(parents=True, exist_ok=True)
        lines = []
        trainer = Trainer(
            build_model(model, seed=config.seed),
            BatchLoader(
                Mixture([("numbers", train_shards, None)], context_tokens=config.context_tokens, seed=config.seed),
                batch_rows=config.rows_per_step,
            ),
            config,
            run,
            validation=(
                (lambda: validation_batches(validation_shards, context_tokens=config.context_tokens, batch_rows=4))
                if validation
                else None
            ),
            hooks=hooks,
            say=say or lines.append,
        )
        trainer.lines = lines
        return trainer

    return make
