"""A whole small model by each method."""

import pytest
import torch

from mamba_slm.core.errors import UnknownNameError, UsageError
from mamba_slm.model.matrices import matrix_names
from mamba_slm.model.quantization import Quantization
from mamba_slm.ops.lowbit.blocks import QuantizedBlocks, dequantize
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from mamba_slm.quantization.measure import Reference
from mamba_slm.quantization.quantize import quantize_model
from mamba_slm.quantization.replacing import matrix_of, replaced
from mamba_slm.quantization.texts import written_by
from small_models import small_tokenizer, varied_model


@pytest.fixture(scope="module")
def model():
    return varied_model()


@pytest.fixture(scope="module")
def rows(model):
    return written_by(model, small_tokenizer(), num_tokens=1500, seed=0).rows


def values_of(matrices):
    return {
        name: dequantize(found) if isinstance(found, QuantizedBlocks) else found.float()
        for name, found in matrices.items()
    }


def kl(model, matrices, rows):
    reference = Reference(model, rows)
    with replaced(model, values_of(matrices)):
        return reference.quality_of(model).mean_kl


def test_every_matrix_is_there_in_order_and_only_the_named_are_rounded(model, rows):
    plan = Quantization(default=scheme_named("int4"), parts={"in_proj": scheme_named("int8"), "embedding": None})
    for method in ("nearest", "hqq", "gptq", "qat"):
        found = quantize_model(model, plan_with(plan, method), calibration=rows[:4])
        assert list(found) == matrix_names(model.config)
        for name, matrix in found.items():
            wanted = plan.fitted_to(model.config)[name]
            assert (matrix.scheme if isinstance(matrix, QuantizedBlocks) else None) == wanted
        assert found["embedding"].dtype == torch.bfloat16  # type: ignore[union-attr]


def plan_with(plan, method):
    return Quantization(default=plan.default, parts=plan.parts, method=method)


def test_text_makes_the_whole_model_better_than_rounding_to_the_nearest(model, rows):
    plan = Quantization(default=Scheme(format="int4", block_size=16), parts={"embedding": None})
    learned, unseen = rows[:30], rows[30:]
    nearest = kl(model, quantize_model(model, plan), unseen)
    by_text = kl(model, quantize_model(model, plan_with(plan, "gptq"), calibration=learned), unseen)
    assert by_text < nearest


def test_the_model_is_as_before_afterwards(model, rows):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize_model(model, Quantization(default=scheme_named("int4"), method="gptq"), calibration=rows[:3])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_padding_and_the_order_of_rows_teach_nothing(model, rows):
    plan = Quantization(default=scheme_named("int4"), method="gptq")
    pieces = [rows[0], rows[1][:7], rows[2][:23]]
    one = values_of(quantize_model(model, plan, calibration=pieces))
    other = values_of(quantize_model(model, plan, calibration=pieces[::-1]))
    assert all((one[name] == other[name]).float().mean() > 0.99 for name in one)  # sums are added in another order


def test_progress_names_every_matrix_and_ends(model, rows):
    told = []
    quantize_model(model, Quantization(default=None), progress=lambda *step: told.append(step))
    names = matrix_names(model.config)
    assert told == [*((number, len(names), name) for number, name in enumerate(names)), (len(names), len(names), "")]


def test_what_cannot_work_is_refused(model):
    with pytest.raises(UsageError, match="calibrate"):
        quantize_model(model, Quantization(default=scheme_named("int4"), method="gptq"))
    with pytest.raises(UnknownNameError, match="in_porj"):
        quantize_model(model, Quantization(default=None, parts={"in_porj": None}))


def test_replaced_matrices_return_also_after_an_error(model):
    own = matrix_of(model, "embedding").clone()
    with pytest.raises(RuntimeError), replaced(model, {"embedding": torch.zeros_like(own)}):
        assert not matrix_of(model, "embedding").any()
        raise RuntimeError
    assert torch.equal(matrix_of(model, "embedding"), own)
