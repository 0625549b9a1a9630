"""Our model in other formats, run by the programs that people run them with. They have no gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from conformance.models import CONFIGS
from conformance.paths import Path
from mamba_slm.export.onnx.build import build_graph
from mamba_slm.export.onnx.plan import WeightPlan
from mamba_slm.export.onnx.readings import Batch, in_pieces, padded_left, read_batch, whole
from mamba_slm.export.onnx.session import open_session
from mamba_slm.model.onnx_contract import Form
from mamba_slm.model.stack import LanguageModel

Reading = Callable[[Sequence[Sequence[int]]], Iterator[Batch]]


def in_onnx_runtime(model: LanguageModel, sequences: Sequence[Tensor], *, form: Form, reading: Reading) -> list[Tensor]:
    """The logits that ONNX Runtime gives."""
    session = open_session(build_graph(model, form, WeightPlan()).SerializeToString(), num_threads=1)
    found: dict[int, Tensor] = {}
    for batch in reading([tokens.tolist() for tokens in sequences]):
        for number, (logits, *_) in zip(batch.sequences, read_batch(session, model.config, batch), strict=True):
            found[number] = torch.from_numpy(logits)
    return [found[number] for number in range(len(sequences))]


def onnx(form: Form, name: str, what: str, reading: Reading) -> Path:
    """An entry for one form and one way of reading."""
    layouts = (*CONFIGS, "portable, heads of 16") if form == "fused" else tuple(CONFIGS)
    logits = partial(in_onnx_runtime, form=form, reading=reading)
    return Path(name=f"ONNX {form}{name}", what=what, logits=logits, layouts=layouts, gradients=False)


FUSED: Form = "fused"
PORTABLE: Form = "portable"
EXPORTS: dict[str, Path] = {
    path.name: path
    for form in (FUSED, PORTABLE)
    for path in (
        onnx(form, "", "the exported graph in ONNX Runtime, each sequence alone", whole),
        onnx(form, ", in pieces", "its states carried over cuts after 1, 3, 62, 64, 65 and 129 tokens", in_pieces),
        onnx(
            form,
            ", batch",
            "prompts in one batch, padded on the left, then 5 tokens per row one at a time",
            padded_left,
        ),
    )
}
