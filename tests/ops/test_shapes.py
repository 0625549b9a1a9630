"""Shape letters bind to sizes; the first disagreement is explained."""

import pytest
import torch

from mamba_slm.core.errors import ShapeError
from mamba_slm.ops.shapes import check_shapes

X = torch.zeros(2, 16, 4)


def test_letters_bind_to_sizes():
    assert check_shapes(x=(X, "b t d"), w=(torch.zeros(4, 9), "d f")) == {"b": 2, "t": 16, "d": 4, "f": 9}


def test_a_disagreement_names_both_tensors():
    with pytest.raises(ShapeError) as caught:
        check_shapes(x=(X, "b t d"), B=(torch.zeros(2, 12, 1), "b t g"))
    assert caught.value.message == "B [b t g] has t=12, but x has t=16"


def test_a_wrong_number_of_axes_shows_the_shape():
    with pytest.raises(ShapeError) as caught:
        check_shapes(x=(X, "b t"))
    assert caught.value.message == "x should be [b t] (2 axes), got shape (2, 16, 4)"
