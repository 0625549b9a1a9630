"""Published scores of GPT-3 and the targets of the original project, each with where it stands.

The original project's table of GPT-3 differs from the papers in most rows; `claimed` keeps what it said. Scores of
other prompts and other numbers of examples than ours are no more than a landmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GPT3 = "Brown et al., arXiv:2005.14165, table H.1"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One score that somebody published."""

    task: str
    """Name of the task or group in lm-evaluation-harness."""
    metric: str
    value: float
    """Share of right answers."""
    how: str
    """How the model was asked."""
    source: str
    model: str = "GPT-3 175B"
    claimed: str = ""
    """What the original project's documents give for GPT-3."""
    target: str = ""
    """What they name as the target of a model of 1.3B."""
    note: str = ""
    """What to know about the claim."""


PUBLISHED: Sequence[Published] = (
    Published(
        task="mmlu", metric="acc", value=0.439, how="5 examples",
        source="Hendrycks et al., arXiv:2009.03300, table 1", claimed="43.7%", target="45%",
    ),
    Published(task="hellaswag", metric="acc_norm", value=0.789, how="no examples", source=GPT3,
              claimed="78.8%", target="80%", note="79.3% with 20 examples"),
    Published(task="arc_easy", metric="acc_norm", value=0.688, how="no examples", source=GPT3,
              claimed="68.3%", target="70%", note="70.1% with 50 examples"),
    Published(task="arc_challenge", metric="acc_norm", value=0.514, how="no examples", source=GPT3,
              claimed="51.0%", target="55%", note="51.5% with 50 examples"),
    Published(
        task="truthfulqa_mc1", metric="acc", value=0.21, how="the paper's prompt",
        source="Lin et al., arXiv:2109.07958, README of sylinrl/TruthfulQA", claimed="28.0%", target="35%",
        note="28% is the share of true answers that were written, not chosen: arXiv:2302.13971, table 14",
    ),
    Published(
        task="truthfulqa_mc2", metric="acc", value=0.33, how="the paper's prompt",
        source="Lin et al., arXiv:2109.07958, README of sylinrl/TruthfulQA",
    ),
    Published(task="piqa", metric="acc_norm", value=0.810, how="no examples", source=GPT3,
              claimed="81.1%", target="82%", note="82.3% with 50 examples"),
    Published(task="winogrande", metric="acc", value=0.702, how="no examples", source=GPT3,
              claimed="70.0%", target="72%", note="77.7% with 50 examples"),
    Published(task="boolq", metric="acc", value=0.605, how="no examples", source=GPT3,
              claimed="76.0%", target="78%", note="77.5% with 32 examples: the claim is not without"),
    Published(
        task="gsm8k", metric="exact_match", value=0.156, how="8 examples without reasoning, text-davinci-002",
        source="Wei et al., arXiv:2201.11903, table 2", claimed="~10%", target="20%",
        note="46.9% with examples that show the reasoning",
    ),
    Published(
        task="humaneval", metric="pass@1", value=0.0, how="no examples",
        source="Chen et al., arXiv:2107.03374", claimed="~20%", target="25%",
        note="GPT-3 solves none; Codex 12B, trained on code, 28.8%",
    ),
)  # fmt: skip


def published(task: str) -> Published | None:
    """The published score of a task or group, or None."""
    return next((one for one in PUBLISHED if one.task == task), None)
