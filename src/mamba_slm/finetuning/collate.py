"""Batches for the wrapper of transformers: examples packed side by side, or one in a row with padding.

    packed      A A A B B | C C C C .       labels of each first token and of places that hold nothing: -100
    seq_idx     0 0 0 1 1 | 0 0 0 0 1       positions begin anew with every example
    padded      A A A . . | B B . . .       attention_mask 0 for padding, left or right

Letters: b batch, t time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mamba_slm.finetuning.examples import EncodedExample
from mamba_slm.finetuning.packing import Row
from mamba_slm.ops.loss import IGNORE_INDEX

Batch = dict[str, Tensor]


def packed_batch(rows: Sequence[Row], *, pad_id: int) -> Batch:
    """`input_ids`, `labels`, `seq_idx` and `position_ids`, each [b t] with t of the longest row.

    Places left over at the end of a row are a further document without labels.
    """
    length = max(sum(len(example.tokens) for example in row) for row in rows)
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "seq_idx": [], "position_ids": []}
    for row in rows:
        filled = sum(len(example.tokens) for example in row)
        rest = EncodedExample((pad_id,) * (length - filled), (False,) * (length - filled), "padding")
        parts = (*row, rest)
        columns["input_ids"].append([token for part in parts for token in part.tokens])
        columns["labels"].append([label for part in parts for label in labels_of(part)])
        columns["seq_idx"].append([number for number, part in enumerate(parts) for _ in part.tokens])
        columns["position_ids"].append([position for part in parts for position in range(len(part.tokens))])
    return {name: torch.tensor(values, dtype=torch.long) for name, values in columns.items()}


def padded_batch(examples: Sequence[EncodedExample], *, pad_id: int, side: str = "right") -> Batch:
    """`input_ids`, `labels` and `attention_mask`, each [b t] with t of the longest example.

    Args:
        side: where padding goes, "left" or "right".
    """
    length = max(len(example.tokens) for example in examples)
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "attention_mask": []}
    for example in examples:
        for name, values, filling in (
            ("input_ids", list(example.tokens), pad_id),
            ("labels", labels_of(example), IGNORE_INDEX),
            ("attention_mask", [1] * len(example.tokens), 0),
        ):
            padding = [filling] * (length - len(example.tokens))
            columns[name].append(padding + values if side == "left" else values + padding)
    return {name: torch.tensor(values, dtype=torch.long) for name, values in columns.items()}


def labels_of(example: EncodedExample) -> list[int]:
    """The token where it is learned, else -100; the wrapper shifts them."""
    return [token if trained else IGNORE_INDEX for token, trained in zip(example.tokens, example.trained, strict=True)]


def packed_collator(pad_id: int) -> Callable[[Sequence[Row]], Batch]:
    """`packed_batch` as the `data_collator` of a Trainer whose data set is `PackedRows`."""
    return lambda rows: packed_batch(rows, pad_id=pad_id)


def padded_collator(pad_id: int) -> Callable[[Sequence[EncodedExample]], Batch]:
    """`padded_batch` as the `data_collator` of a Trainer whose data set is a list of examples."""
    return lambda examples: padded_batch(examples, pad_id=pad_id)
