"""How large an export will be, and what the exporter would refuse; by arithmetic, before it starts."""

from __future__ import annotations

from typing import Any

from mamba_slm.core.errors import UsageError
from mamba_slm.dashboard.forms_models import ExportForm
from mamba_slm.dashboard.reading.models import Model
from mamba_slm.model.count import count_parameters

GGUF_BITS = {
    "F32": 32, "F16": 16, "BF16": 16, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_0": 5.5, "Q4_1": 5, "Q4_K_M": 4.9, "Q4_K": 4.5,
    "Q4_0": 4.5,
}  # fmt: skip
"""Of a weight in a matrix, as the command's help says; rows that do not fit take more."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
EIGHTS = 8


def planned_export(form: ExportForm, model: Model) -> dict[str, Any] | None:
    """About how large the export will be; None where only the exporter knows.

    Raises:
        UsageError: the format cannot hold this model without one more choice.
    """
    config = model.config
    if config is None:
        return None
    if form.format != "onnx" and config.vocab_size % EIGHTS and not form.pad_vocabulary:
        raise UsageError(
            f"the vocabulary of {config.vocab_size:,} is no multiple of {EIGHTS}, which {form.format} needs",
            hint="tick “fill the vocabulary up”",
        )
    if form.format == "hf" and model.quantization is not None and not form.dequantize:
        raise UsageError(
            "a Hugging Face folder cannot hold quantized numbers",
            hint="tick “write the values”, or choose ONNX or GGUF",
        )
    count = count_parameters(config).total
    if form.format == "hf":
        size, how = BYTES.get(form.dtype, 4) * count, f"weights in {form.dtype}"
    elif form.format == "gguf" and (form.type or model.quantization is None):
        kind = form.type or "Q8_0"
        size, how = round(count * GGUF_BITS.get(kind, 32) / 8), f"matrices in {kind}, what does not fit takes more"
    elif form.format == "onnx" and (form.weights or "fp32") == "fp32" and model.quantization is None:
        size, how = 4 * count, "weights in float32"
    else:
        return None
    return {"bytes": size, "bf16_bytes": 2 * count, "how": f"about; {how}", "parts": [], "remarks": []}
