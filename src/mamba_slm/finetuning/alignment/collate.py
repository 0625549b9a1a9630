"""Encoded pairs and answers as rows of a dataset, and rows as the batches that TRL's trainers expect.

Rows are padded on the right, each chosen answer in the first half of a batch and its rejected one in the second. The
mask says token by token what is trained, so that a dialogue's user may speak between two answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mamba_slm.finetuning.alignment.encoded import EncodedAnswer, EncodedLabelled, EncodedPair

Row = Mapping[str, Any]


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """[b t] int64 of the longest row's length, `value` behind the shorter ones."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.int64)


def answer_batch(answers: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `completion_mask` [b t] of (tokens, mask) each."""
    return {
        "input_ids": padded([tokens for tokens, _ in answers], pad_id),
        "attention_mask": padded([[1] * len(tokens) for tokens, _ in answers], 0),
        "completion_mask": padded([mask for _, mask in answers], 0),
    }


def tokens_and_mask(answer: EncodedAnswer) -> tuple[list[int], list[int]]:
    """All tokens, and 1 for those that are trained."""
    return list(answer.tokens), [0] * len(answer.prompt) + [int(is_trained) for is_trained in answer.trained]


def pair_row(pair: EncodedPair) -> dict[str, Any]:
    """A pair as a row of a dataset."""
    chosen, rejected = tokens_and_mask(pair.chosen), tokens_and_mask(pair.rejected)
    return {"chosen": chosen[0], "chosen_mask": chosen[1], "rejected": rejected[0], "rejected_mask": rejected[1]}


class PairCollator:
    """Rows of `pair_row` to a batch of twice as many; log-probabilities of a reference go along."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        answers = [(row[side], row[f"{side}_mask"]) for side in ("chosen", "rejected") for row in rows]
        batch = answer_batch(answers, self.pad_id)
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch


def labelled_rows(
    labelled: Sequence[EncodedLabelled], *, rows_at_once: int, context_tokens: int
) -> list[dict[str, Any]]:
    """Labelled answers as rows; each also has the answer to another prompt, from which KTO estimates the divergence.

    That is the answer of the row before it in its batch of `rows_at_once`, the batch's last one for the first row, so
    that the mismatched answers of a batch are its matched ones; a batch of one takes the row before it. The order of
    the rows must not change afterwards. What would be longer than the context is cut.
    """
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(labelled):
        begin = number - number % rows_at_once
        end = min(begin + rows_at_once, len(labelled))
        before = number - 1 if number > begin else end - 1
        if before == number:  # a batch of one, at the end
            before = (number - 1) % len(labelled)
        tokens, mask = tokens_and_mask(each.answer)
        other = labelled[before].answer
        mismatched = EncodedAnswer(prompt=each.answer.prompt, completion=other.completion, trained=other.trained)
        other_tokens, other_mask = tokens_and_mask(mismatched.cut(context_tokens))
        rows.append(
            {
                "tokens": tokens, "mask": mask, "label": each.is_good,
                "other_tokens": other_tokens, "other_mask": other_mask,
            }
        )  # fmt: skip
    return rows


class LabelledCollator:
    """Rows of `labelled_rows` to a batch for TRL's KTO."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        batch = answer_batch([(row["tokens"], row["mask"]) for row in rows], self.pad_id)
        others = [(row["other_tokens"], row["other_mask"]) for row in rows]
        batch |= {f"KL_{name}": tensor for name, tensor in answer_batch(others, self.pad_id).items()}
        for name in ("ref_logps", "ref_KL_logps"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        batch["label"] = torch.tensor([row["label"] for row in rows])
        return batch
