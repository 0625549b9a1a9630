"""Bind shape letters to sizes, and explain the first disagreement."""

from __future__ import annotations

from torch import Tensor

from mamba_slm.core.errors import ShapeError


def check_shapes(**tensors: tuple[Tensor, str]) -> dict[str, int]:
    """Bind shape letters to sizes; each keyword is ``name=(tensor, "b t h p")``.

    Returns the sizes, for example ``{"b": 2, "t": 16}``.

    Raises:
        ShapeError: a wrong number of axes, or two tensors that disagree: ``B [b t g n] has t=12, but x has t=16``.
    """
    sizes: dict[str, int] = {}
    owner: dict[str, str] = {}
    for name, (tensor, spec) in tensors.items():
        letters = spec.split()
        if len(letters) != tensor.dim():
            raise ShapeError(f"{name} should be [{spec}] ({len(letters)} axes), got shape {tuple(tensor.shape)}")
        for letter, size in zip(letters, tensor.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ShapeError(
                    f"{name} [{spec}] has {letter}={size}, but {owner[letter]} has {letter}={sizes[letter]}"
                )
            owner.setdefault(letter, name)
    return sizes
