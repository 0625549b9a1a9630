"""What making another model of one will take, for the dashboard: by the code of the commands, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mamba_slm.model.config import ModelConfig


def plan_of_quantization(
    words: Sequence[str], model: ModelConfig, trained_for: Mapping[str, Any] | None
) -> dict[str, Any]:
    """How large the result of `mamba-slm quantize …` will be, from shapes alone.

    Args:
        words: after `mamba-slm quantize`.
        trained_for: of the model's config.json.

    Returns: `bytes`, `bf16_bytes`, `parts`, `remarks`, and in words `how`.

    Raises:
        MambaSlmError: the command would refuse these settings for this model.
    """
    from mamba_slm.cli.main import load_command
    from mamba_slm.core.config import flags_given, resolve
    from mamba_slm.core.errors import UsageError
    from mamba_slm.model.quantization import Quantization
    from mamba_slm.quantization.config import QuantizeConfig
    from mamba_slm.quantization.plan import plan_for, planned_size, unfitting

    _, parser = load_command("quantize")
    args = parser.parse_args(list(words))
    config, _ = resolve(QuantizeConfig, [("command line", flags_given(args, QuantizeConfig))])
    learnt = None if trained_for is None else Quantization.from_json(trained_for)
    plan = plan_for(config, model, trained_for=learnt)
    if plan.method == "gptq" and config.calibration is None:
        raise UsageError("gptq needs text to calibrate with", hint="name a file, folder or token shards of its kind")
    size = planned_size(plan, model)
    return {
        "bytes": size.num_bytes,
        "bf16_bytes": size.bfloat16_bytes,
        "how": f"{size.bits_per_weight:.2f} bits per weight, by arithmetic from the shapes; method {plan.method}",
        "parts": [{"name": part.name, "stored": part.schemes, "bytes": part.num_bytes} for part in size.parts],
        "remarks": [f"{name} {why}" for name, why in unfitting(plan, model).items()],
    }
