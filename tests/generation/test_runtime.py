"""Promises of the seam between the decode loop and what runs the model."""

import pytest
import torch

from mamba_slm.core.errors import UnknownNameError, UsageError
from mamba_slm.core.native import load_library
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.generate import generate
from mamba_slm.generation.loading import RuntimeSettings, load
from mamba_slm.generation.runtime import TorchRuntime, as_runtime
from mamba_slm.model.packed import PackedModel, nearest
from mamba_slm.model.quantization import PLANS
from mamba_slm.model.quantized import save_quantized
from mamba_slm.ops.kernels import loaded_kernel, without_kernels
from mamba_slm.ops.native.library import missing_for_native
from small_models import save_small_model, small_tokenizer, varied_model

TOKENS = torch.tensor([[5, 6, 7, 8, 9], [1, 2, 3, 0, 0]])
MASK = TOKENS > 0


@pytest.fixture(scope="module")
def model():
    return varied_model(vocab_size=40)


def test_the_logits_are_those_behind_each_rows_last_real_token(model):
    runtime = TorchRuntime(model)
    state = runtime.new_state(2)
    logits = runtime.next_logits(TOKENS, MASK, state)
    assert state.num_tokens.tolist() == [5, 3]
    for row, length in enumerate((5, 3)):
        alone = runtime.next_logits(TOKENS[row : row + 1, :length], None, runtime.new_state(1))
        assert torch.allclose(logits[row : row + 1], alone, atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(alone, model(TOKENS[row : row + 1, :length])[:, -1], atol=1e-5)


def test_a_row_without_a_token_in_a_piece_does_not_move(model):
    runtime = TorchRuntime(model)
    state = runtime.new_state(2)
    runtime.next_logits(TOKENS[:, :3], None, state)
    runtime.next_logits(TOKENS[:, 3:], MASK[:, 3:], state)
    assert state.num_tokens.tolist() == [5, 3]
    next_token = torch.tensor([[4], [4]])
    alone = runtime.next_logits(torch.tensor([[1, 2, 3, 4]]), None, runtime.new_state(1))
    assert torch.allclose(runtime.next_logits(next_token, None, state)[1:], alone, atol=1e-5)


def test_a_model_is_its_own_runtime(model):
    runtime = as_runtime(model)
    assert isinstance(runtime, TorchRuntime)
    assert as_runtime(runtime) is runtime
    assert runtime.description.startswith("torch ")
    assert "device cpu" in runtime.description
    expected = generate(model, [[1, 2]], max_new_tokens=5)
    assert generate(runtime, [[1, 2]], max_new_tokens=5).completions == expected.completions


def test_an_unknown_runtime_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'torch'"):
        load(tmp_path, runtime="trch")


def test_a_runtime_takes_the_threads_it_is_given(tmp_path):
    folder = save_small_model(tmp_path / "small")
    loaded = load(folder, settings=RuntimeSettings(device="cpu", threads=2))
    assert torch.get_num_threads() == 2
    assert (loaded.reason, loaded.folder) == ("asked for", folder)


@pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))
@pytest.mark.parametrize("weights", [None, "bfloat16", "int8", "mixed"])
def test_where_cpp_may_be_compiled_the_step_is_and_the_text_stays_the_same(tmp_path, weights):
    folder = save_small_model(tmp_path / "small")
    plain = load(folder, settings=RuntimeSettings(weights=weights)).runtime
    assert type(plain) is TorchRuntime
    with without_kernels():
        compiled = load(folder, settings=RuntimeSettings(weights=weights, kernels=True)).runtime
        assert isinstance(compiled, CompiledRuntime)
        assert "compiled step" in compiled.description
        found = generate(compiled, [[5, 6, 7]], max_new_tokens=3).completions
    if weights is None:
        assert found == generate(plain, [[5, 6, 7]], max_new_tokens=3).completions


def test_without_a_compiler_the_plain_step_runs_and_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    load_library.cache_clear()
    said = []
    loaded = load(save_small_model(tmp_path / "small"), settings=RuntimeSettings(kernels=True, say=said.append))
    assert type(loaded.runtime) is TorchRuntime
    assert "decoding without a compiled step: no native kernels: there is no g++" in said[-1]


@pytest.mark.parametrize("runtime", ["torch", "compiled"])
def test_a_quantized_model_runs_as_it_is_stored_and_rounds_nothing_twice(runtime, tmp_path):
    if runtime == "compiled" and missing_for_native() is not None:
        pytest.skip(str(missing_for_native()))
    model, plan = varied_model(), PLANS["nf4"]
    save_quantized(tmp_path, model.config, nearest(model, plan), model.state_dict(), plan)
    small_tokenizer().save(tmp_path)
    loaded = load(tmp_path, runtime=runtime)
    assert isinstance(loaded.runtime, TorchRuntime) and isinstance(loaded.runtime.model, PackedModel)
    assert loaded.reason.startswith("auto: no GPU found; nf4, blocks of 64 weights, ")
    with pytest.raises(UsageError, match=r"quantized already \(nf4, blocks of 64\), so its weights cannot be held"):
        load(tmp_path, runtime=runtime, settings=RuntimeSettings(weights="int8"))


def test_packed_weights_are_said_with_their_size_and_that_they_are_slow_without_a_kernel(tmp_path):
    folder, said = save_small_model(tmp_path / "small"), []
    loaded = load(folder, settings=RuntimeSettings(weights="int4", kernels=False, say=said.append))
    assert ["slower than with bfloat16 weights: no kernel" in line for line in said] == [True]
    assert isinstance(loaded.runtime, TorchRuntime) and isinstance(loaded.runtime.model, PackedModel)
    assert loaded.reason.startswith("auto: no GPU found; int4 weights, ")
    assert loaded_kernel("packed_linear", "cpu", torch.zeros(1, 8), None) is None
    with pytest.raises(UnknownNameError, match="did you mean 'int8'"):
        RuntimeSettings(weights="int-8")
