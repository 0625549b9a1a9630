"""Calling an exported graph as its contract says: pieces of rows in, logits out, states carried on.

Letters: b rows, t tokens of a piece, v vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.onnx_contract import ATTENTION_MASK, INPUT_IDS, LOGITS, NUM_LOGITS_TO_KEEP, onnx_states


class GraphCaller:
    """One batch of rows on an ONNX Runtime session."""

    def __init__(self, session: Any, config: ModelConfig, *, rows: int = 1):
        self.session = session
        self.specs = list(onnx_states(config))
        self.states = {spec.past: np.zeros(spec.empty_shape(rows), dtype=np.float32) for spec in self.specs}
        self.mask = np.zeros((rows, 0), dtype=np.int64)

    def read(
        self,
        tokens: NDArray[np.int64],
        mask: NDArray[np.int64] | None = None,
        *,
        keep: int = 0,
        also: tuple[str, ...] = (),
    ) -> list[NDArray[np.float32]]:
        """Read a piece of every row; return the logits and the further outputs named in `also`.

        Args:
            tokens: [b t].
            mask: [b t] 0 at padding; None: there is none.
            keep: `num_logits_to_keep`; 0 leaves it out.

        Returns: logits [b t v], or [b keep v], and `also`.
        """
        self.mask = np.concatenate([self.mask, np.ones_like(tokens) if mask is None else mask], axis=1)
        feeds: dict[str, NDArray[Any]] = {INPUT_IDS: tokens, ATTENTION_MASK: self.mask, **self.states}
        if keep:
            feeds[NUM_LOGITS_TO_KEEP] = np.array(keep, dtype=np.int64)
        wanted = [LOGITS, *also]
        found = self.session.run([*wanted, *(spec.present for spec in self.specs)], feeds)
        self.states = {spec.past: value for spec, value in zip(self.specs, found[len(wanted) :], strict=True)}
        return found[: len(wanted)]
