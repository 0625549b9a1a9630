"""A batch of answers of unequal lengths, and what a TRL trainer wants beside a model."""

from __future__ import annotations

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from mamba_slm.finetuning.alignment.encoded import EncodedAnswer, EncodedLabelled, EncodedPair
from mamba_slm.text.tokenizer import PAD
from small_models import VOCAB_SIZE, small_tokenizer

LENGTHS = ((3, 5, 9), (7, 2, 1), (1, 12, 4), (10, 3, 3))
"""Tokens of prompt, chosen and rejected."""


def pad_id():
    return small_tokenizer().pad_id


def answers(seed=1):
    """(chosen, rejected) of each prompt, random tokens."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count):
        return tuple(torch.randint(4, VOCAB_SIZE, (count,), generator=generator).tolist())

    for prompt_tokens, *completions in LENGTHS:
        prompt = tokens(prompt_tokens)
        yield [EncodedAnswer(prompt=prompt, completion=tokens(count), trained=(True,) * count) for count in completions]


def pairs():
    return [EncodedPair(chosen=good, rejected=bad, origin=f"line {n}") for n, (good, bad) in enumerate(answers(), 1)]


def labelled():
    return [EncodedLabelled(answer=pair[n % 2], is_good=n % 2 == 0, origin="") for n, pair in enumerate(answers())]


def trainer_of(cls, config_cls, model, rows, collator, tmp_path, *, further=None, **settings):
    """A trainer of one batch with all rows, on the CPU."""
    settings = {
        "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": len(rows), "use_cpu": True, "bf16": False,
        "report_to": "none", "remove_unused_columns": False, "gradient_checkpointing": False, "disable_tqdm": True,
        "dataloader_pin_memory": False, "train_sampling_strategy": "sequential",
    } | settings  # fmt: skip
    return cls(
        model,
        args=config_cls(**settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=hf_tokenizer(),
        **({} if collator is None else {"data_collator": collator}),
        **(further or {}),
    )


def hf_tokenizer():
    names = {id: small_tokenizer().decode([id], skip_special=False) for id in small_tokenizer().special_ids}
    ours = small_tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=ours.backend, pad_token=PAD, eos_token=names[ours.eos_id], bos_token=names[ours.bos_id]
    )


def loss_of(trainer):
    """Of the first batch, with gradients."""
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    return trainer.compute_loss(trainer.model, batch)
