"""Which matrix of a model is stored in which scheme, how large that is, and how config.json says it. No torch.

A_log, D, dt_bias, the convolution, norms and learned positions are no matrices: they stay float32, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mamba_slm.core.config import from_dict
from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.count import count_parameters
from mamba_slm.model.matrices import PARTS, matrix_names, matrix_shapes, part_of
from mamba_slm.ops.lowbit.scheme import NAMED_SCHEMES, Scheme, scheme_named

__all__ = ["MIXED", "PLANS", "Quantization", "matrix_names", "parse_keep", "plan_named", "quantized_bytes"]

QUANTIZATION_KEY = "quantization"
"""Of config.json."""
METHODS = ("nearest", "gptq", "hqq", "qat")
UNROUNDED = ("float", "bf16")
"""Words for a matrix that stays in bfloat16."""
BFLOAT16_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """A scheme for every matrix of a model.

    >>> plan = Quantization(default=scheme_named("int4"), parts={"in_proj": scheme_named("int8"), "lm_head": None})
    >>> [str(plan.scheme_of(name)) for name in ("sublayers.0.mixer.in_proj", "sublayers.1.mixer.q_proj", "lm_head")]
    ['int8, blocks of 32', 'int4, blocks of 32', 'None']
    """

    default: Scheme | None
    """Of matrices that `parts` does not name; None: bfloat16."""

    parts: Mapping[str, Scheme | None] = field(default_factory=dict)
    """By part (`PARTS`), or by the full name of one matrix, which counts more."""

    method: str = "nearest"
    """How codes were chosen, from `METHODS`."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("quantization method", self.method, METHODS)

    def scheme_of(self, matrix_name: str) -> Scheme | None:
        """The scheme wanted for a matrix; None: bfloat16. `Scheme.fitted` says whether its rows allow it."""
        for key in (matrix_name, part_of(matrix_name)):
            if key in self.parts:
                return self.parts[key]
        return self.default

    def for_model(self, config: ModelConfig) -> Quantization:
        """The same, in words of this model: with its embedding tied, what is said of the head holds for the embedding.

        Raises:
            UnknownNameError: `parts` names a part or a matrix that no such model has.
        """
        known = [*PARTS, *matrix_names(config)]
        unknown = sorted(set(self.parts) - set(known))
        if unknown:
            raise UnknownNameError(
                "part of the model", unknown[0], known, hint=f"parts: {', '.join(PARTS)}; or the name of one matrix"
            )
        if not config.tie_embeddings or "head" not in self.parts:
            return self
        parts = {name: scheme for name, scheme in self.parts.items() if name != "head"}
        return replace(self, parts={"embedding": self.parts["head"], **parts})

    def fitted_to(self, config: ModelConfig) -> dict[str, Scheme | None]:
        """The scheme that every matrix of this model gets, with its own block size; None: bfloat16.

        Raises:
            UnknownNameError: as `for_model`.
        """
        plan, shapes = self.for_model(config), matrix_shapes(config)
        wanted = {name: plan.scheme_of(name) for name in shapes}
        return {name: scheme and scheme.fitted(shapes[name][1]) for name, scheme in wanted.items()}

    def keeping(self, parts: Mapping[str, Scheme | None]) -> Quantization:
        """The same with other schemes for some parts."""
        return replace(self, parts={**self.parts, **parts})

    def to_json(self) -> dict[str, Any]:
        """For config.json."""
        return {
            "default": self.default and self.default.to_json(),
            "parts": {name: scheme and scheme.to_json() for name, scheme in self.parts.items()},
            "method": self.method,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], *, where: str = "quantization") -> Quantization:
        """The inverse of `to_json`.

        Raises:
            ConfigError: it is none; names `where`.
        """

        def scheme(value: Any) -> Scheme | None:
            return None if value is None else from_dict(Scheme, value, where=where)

        try:
            parts = {str(name): scheme(value) for name, value in stored["parts"].items()}
            return cls(default=scheme(stored["default"]), parts=parts, method=stored["method"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{where} does not describe a quantization: {error!r}") from error

    def __str__(self) -> str:
        parts = [f"{name} {scheme or 'bfloat16'}" for name, scheme in self.parts.items()]
        return "; ".join([str(self.default or "bfloat16"), *parts])


INT8, INT4 = NAMED_SCHEMES["int8"], NAMED_SCHEMES["int4"]
MIXED = Quantization(default=INT4, parts={"in_proj": INT8, "embedding": INT8, "head": INT8})
"""What `mixed` means: 8 bits where 4 cost a hybrid most (../shared/reference/inference.md, 6.2)."""
PLANS: dict[str, Quantization] = {
    **{name: Quantization(default=scheme) for name, scheme in NAMED_SCHEMES.items()},
    "mixed": MIXED,
}
"""By the name of `--to` and `--weights`."""


def plan_named(name: str) -> Quantization:
    """By name, from `PLANS`.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PLANS:
        raise UnknownNameError("quantization", name, PLANS)
    return PLANS[name]


def parse_keep(text: str | Iterable[str]) -> dict[str, Scheme | None]:
    """Schemes by part, as `--keep` names them; `float` and `bf16` leave a part in bfloat16.

    >>> {name: str(scheme) for name, scheme in parse_keep("in_proj=int8,head=bf16").items()}
    {'in_proj': 'int8, blocks of 32', 'head': 'None'}

    Raises:
        ConfigError: not of the form PART=FORMAT; UnknownNameError for an unknown format.
    """
    items = [piece for entry in ([text] if isinstance(text, str) else text) for piece in entry.split(",")]
    kept: dict[str, Scheme | None] = {}
    for item in filter(None, (piece.strip() for piece in items)):
        part, separator, name = (piece.strip() for piece in item.partition("="))
        if not (part and separator and name):
            raise ConfigError(f"{item!r} is not PART=FORMAT", hint="for example --keep in_proj=int8,head=bf16")
        if name not in UNROUNDED and name not in NAMED_SCHEMES:
            raise UnknownNameError("format", name, [*NAMED_SCHEMES, *UNROUNDED])
        kept[part] = None if name in UNROUNDED else scheme_named(name)
    return kept


def quantized_bytes(config: ModelConfig, quantization: Quantization) -> int:
    """Bytes of all weights of a quantized model: matrices as stored, the unrounded in bfloat16, the rest in float32.

    Constants of a few bytes per matrix, such as the tables that bitsandbytes writes beside it, are left out.
    """
    shapes, schemes = matrix_shapes(config), quantization.fitted_to(config)
    matrices = 0
    for name, (outputs, inputs) in shapes.items():
        scheme = schemes[name]
        matrices += outputs * inputs * BFLOAT16_BYTES if scheme is None else scheme.stored_bytes(outputs, inputs)
    others = count_parameters(config).total - sum(outputs * inputs for outputs, inputs in shapes.values())
    return matrices + 4 * others
