"""Training settings that fit each model preset. Imports no torch.

Where the numbers come from: nano was tuned here on the standard library's source (docs/log.md); tiny, 60M and demo are
set between nano and the next. From 125M on, the batch is GPT-3's (arXiv:2005.14165, table 2.1) and the learning rate
twice GPT-3's: Mamba's own recipe takes five times (arXiv:2312.00752, E.2), published hybrids of 8B about six
(Nemotron-H, arXiv:2504.03624). No size above nano has been trained to its end here.
"""

from __future__ import annotations

from typing import Any

from mamba_slm.core.errors import UnknownNameError

CHECKPOINTED = {"gradient_checkpointing": True}
TRAIN_PRESETS: dict[str, dict[str, Any]] = {
    "nano": {"context_tokens": 512, "batch_tokens": 2048, "learning_rate": 3e-3},
    "tiny": {"context_tokens": 512, "batch_tokens": 8192, "learning_rate": 2e-3},
    "60M": {"context_tokens": 1024, "batch_tokens": 65_536, "learning_rate": 1.5e-3},
    "demo": {"context_tokens": 1024, "batch_tokens": 65_536, "learning_rate": 1e-3},
    "125M": {"context_tokens": 2048, "batch_tokens": 524_288, "learning_rate": 1.2e-3},
    "350M": {"context_tokens": 2048, "batch_tokens": 524_288, "learning_rate": 6e-4},
    "1.3B": {"context_tokens": 4096, "batch_tokens": 1_048_576, "learning_rate": 4e-4, **CHECKPOINTED},
    "2.7B": {
        "context_tokens": 4096,
        "batch_tokens": 1_048_576,
        "learning_rate": 3.2e-4,
        "gradient_checkpointing": True,
    },
    "6.7B": {
        "context_tokens": 8192,
        "batch_tokens": 2_097_152,
        "learning_rate": 2.4e-4,
        "gradient_checkpointing": True,
    },
    "13B": {"context_tokens": 8192, "batch_tokens": 2_097_152, "learning_rate": 2e-4, **CHECKPOINTED},
}


def train_preset(model: str) -> dict[str, Any]:
    """Settings of `TrainConfig` that differ from its defaults for this model preset.

    Raises:
        UnknownNameError: no such preset; names the nearest.
    """
    if model not in TRAIN_PRESETS:
        raise UnknownNameError("preset", model, TRAIN_PRESETS, hint="mamba-slm models list shows them all")
    return {"model": model, **TRAIN_PRESETS[model]}
