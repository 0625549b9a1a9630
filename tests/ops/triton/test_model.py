"""A whole model on the GPU's kernels is the model: float32, bfloat16, packed documents, gradients."""

import pytest
import torch

from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.ops.ssd import scan_dtype
from tolerances import assert_close, tolerance_of


def loss_and_gradients(backend, device, dtype):
    config = ModelConfig(
        pattern="M", vocab_size=40, hidden_size=16, num_heads=1, num_kv_heads=1, feed_forward_size=16, state_size=16,
        ssm_head_dim=16, max_context_tokens=80,
    )  # fmt: skip
    model = build_model(config, seed=0).to(device)
    for module in model.modules():
        if isinstance(module, Mamba2):
            module.scan_backend = backend
    tokens = torch.randint(40, (1, 24), generator=torch.Generator().manual_seed(0)).to(device)
    ids = (torch.arange(24, device=device) >= 9).long()[None]
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = model(tokens, document_ids=ids)
        loss = model.loss(tokens, tokens.roll(-1), document_ids=ids)
    loss.backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_logits_and_gradients_are_those_of_the_recurrence(device, installed, dtype):
    installed("conv")
    found, gradients = loss_and_gradients("triton", device, dtype)
    expected, wanted = loss_and_gradients("reference", device, torch.float32)
    tolerance = tolerance_of("model", dtype)
    assert_close(found, expected, tolerance.values, "logits")
    for name, gradient in wanted.items():
        assert_close(gradients[name], gradient, tolerance.gradients, name)


def test_only_a_scan_that_multiplies_bfloat16_is_handed_bfloat16():
    assert scan_dtype(torch.bfloat16, "cuda", "triton") == torch.bfloat16
    assert scan_dtype(torch.float32, "cuda", "triton") == torch.float32
    assert scan_dtype(torch.bfloat16, "cuda", "chunked") == torch.float32
    assert scan_dtype(torch.bfloat16, "cpu") == torch.float32
