"""How `qat` wants matrices to be rounded. No torch."""

from __future__ import annotations

import dataclasses

from mamba_slm.model.quantization import Quantization, parse_keep, plan_named
from mamba_slm.ops.lowbit.scheme import Scheme

METHOD = "qat"


def rounding_plan(name: str, *, keep: str | None = None, block_size: int | None = None) -> Quantization:
    """The plan of that name, as `quantize --to` understands it.

    Args:
        keep: PART=FORMAT with commas, over the plan's own parts.
        block_size: of all that is rounded to 4 bits, or of everything where nothing is.

    Raises:
        ConfigError, UnknownNameError: no such plan, format or block size.

    >>> str(rounding_plan("int4", keep="in_proj=int8", block_size=64))
    'int4, blocks of 64; in_proj int8, blocks of 32'
    """
    plan = plan_named(name)

    def sized(scheme: Scheme | None) -> Scheme | None:
        return scheme if scheme is None or block_size is None else dataclasses.replace(scheme, block_size=block_size)

    plan = dataclasses.replace(plan, default=sized(plan.default), method=METHOD)
    return plan.keeping(parse_keep(keep)) if keep else plan
