"""How far the loss of each token reaches back, measured: a row of four documents with and without their borders.

    python benchmarks/gradients.py

Writes benchmarks/results/gradients.json: for every token of the row the length of the gradient of its loss with respect
to the embedding of every other token. Seconds on any CPU. Zeros are kept as zeros, other values with two digits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from mamba_slm.core.files import write_json_atomic
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset
from mamba_slm.model.stack import LanguageModel
from mamba_slm.runs.record import source_commit

RESULTS = Path(__file__).parent / "results" / "gradients.json"
DOCUMENT_TOKENS = (13, 4, 17, 14)
SEED = 0


def measured() -> dict[str, Any]:
    """Both rows, with what they were measured on."""
    model = build_model(preset("nano", vocab_size=256), seed=SEED)
    tokens = torch.randint(0, 256, (1, sum(DOCUMENT_TOKENS) + 1), generator=torch.Generator().manual_seed(SEED))
    ids = torch.repeat_interleave(torch.arange(len(DOCUMENT_TOKENS)), torch.tensor(DOCUMENT_TOKENS))[None]
    return {
        "model": "nano", "pattern": model.config.pattern, "seed": SEED, "torch": torch.__version__,
        "source": source_commit(), "document_tokens": list(DOCUMENT_TOKENS),
        "packed": lengths(model, tokens, ids), "one_text": lengths(model, tokens, None),
    }  # fmt: skip


def lengths(model: LanguageModel, tokens: torch.Tensor, document_ids: torch.Tensor | None) -> list[str]:
    """[t] rows of t numbers: lengths of the gradient of the loss of token i with respect to the embedding of token j.

    Args:
        tokens: [1, t + 1] ids, of which the first t are read and the last t are to be predicted.
    """
    kept: list[torch.Tensor] = []

    def keep(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Make the embeddings a leaf of the graph."""
        kept.append(output.detach().requires_grad_())
        return kept[0]

    with model.embedding.register_forward_hook(keep):
        logits = model(tokens[:, :-1], document_ids=document_ids)
    losses = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:], reduction="none")
    rows = []
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, kept[0], retain_graph=True)
        rows.append(" ".join(f"{value:.2g}" for value in gradient[0].norm(dim=1).tolist()))
    return rows


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    write_json_atomic(args.out, measured())
    return 0


if __name__ == "__main__":
    sys.exit(main())
