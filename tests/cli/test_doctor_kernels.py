"""The self-test catches a wrong kernel, whatever is wrong with it, and lets the right ones pass."""

import sys
import types

import pytest
import torch

from mamba_slm.cli.examination import kernels, libraries
from mamba_slm.cli.examination.installing import Installation
from mamba_slm.cli.examination.operations import SMALL, operations
from mamba_slm.cli.main import main
from mamba_slm.ops.ssd import SSD_BACKENDS, automatic_ssd_backend
from mamba_slm.ops.ssd_recompute import ssd_recompute

INSTALL = Installation(source="index", installer=("pip", "install"))


class HalfTheGradient(torch.autograd.Function):
    """The identity, with a gradient that is wrong."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad / 2


def slightly_wrong_values(x, *rest, **settings):
    y, state = ssd_recompute(x, *rest, **settings)
    return y * (1 + 1e-3), state


def wrong_gradients(x, *rest, **settings):
    return ssd_recompute(HalfTheGradient.apply(x), *rest, **settings)


def wrong_state(*inputs, **settings):
    y, state = ssd_recompute(*inputs, **settings)
    return y, torch.zeros_like(state)


def not_a_number(*inputs, **settings):
    y, state = ssd_recompute(*inputs, **settings)
    return y * torch.nan, state


def ignores_documents(*inputs, document_ids, **settings):
    return ssd_recompute(*inputs, **settings)


def raises(*inputs, **settings):
    raise RuntimeError("no kernel image is available\nand much more")


WRONG = (slightly_wrong_values, wrong_gradients, wrong_state, not_a_number, ignores_documents, raises)


@pytest.fixture
def backend(monkeypatch):
    """Register a scan under a name of the registry."""

    def register(name, function):
        module = types.ModuleType("wrong_scan_for_a_test")
        module.scan = function
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(SSD_BACKENDS, name, f"{module.__name__}:scan")

    return register


def checks_by_name(*, measure=False):
    return {check.name: check for check in kernels.kernel_checks(device="cpu", measure=measure, report="mend")}


@pytest.mark.parametrize("function", WRONG, ids=lambda function: function.__name__)
def test_a_wrong_scan_is_noted_and_the_others_still_pass(backend, function):
    backend("wrong", function)
    checks = checks_by_name()
    wrong = checks.pop("scan wrong")
    assert wrong.status == "note"
    assert "WRONG on this machine" in wrong.text
    assert (wrong.cost, wrong.hint) == ("nothing unless it is chosen by name", "mend")
    assert {check.status for check in checks.values()} == {"ok"}


def test_the_error_is_in_the_text_and_in_the_numbers(backend):
    backend("wrong", slightly_wrong_values)
    check = checks_by_name()["scan wrong"]
    assert check.measured["values_error"] == pytest.approx(1e-3, rel=0.1)
    assert "values are off by 1e-03" in check.text


def test_an_exception_is_reported_with_its_first_line(backend):
    backend("wrong", raises)
    assert checks_by_name()["scan wrong"].text.endswith("RuntimeError: no kernel image is available")


def test_a_wrong_automatic_scan_stops_the_program(backend, capsys):
    automatic = automatic_ssd_backend("cpu")[0]
    backend(automatic, wrong_gradients)
    assert main(["doctor", "--no-measure"]) == 3
    out = capsys.readouterr().out
    assert f"✗ scan {automatic}" in out
    assert "cost: what models compute and learn here is wrong" in out
    assert out.splitlines()[-1] == f"not ready: scan {automatic} (kernels) must be mended first"


def test_a_wrong_scan_is_not_timed(backend):
    backend("wrong", slightly_wrong_values)
    checks = checks_by_name(measure=True)
    assert "seconds" not in checks["scan wrong"].measured
    assert checks["scan recompute"].measured["seconds"] > 0


def test_every_backend_of_the_registry_and_every_fast_operation_is_examined():
    names = [kernels.kernel_check(o, way, kernels.self_test(o, way), None, "").name for o in operations(SMALL)
             for way in o.ways]  # fmt: skip
    assert {f"scan {name}" for name in SSD_BACKENDS if name != "reference"} <= set(names)
    assert {"convolution", "norm", "gated norm", "loss", "attention"} <= set(names)


def test_what_is_kept_for_the_backward_pass_is_counted_without_the_inputs():
    x = torch.randn(100).requires_grad_()
    operation = kernels.Operation(
        name="square", inputs=(x,), definition=lambda x: (x.exp(),), ways={}, automatic=""
    )  # fmt: skip
    assert kernels.bytes_kept(operation, lambda x: (x * x,)) == 0
    assert kernels.bytes_kept(operation, lambda x: (x.exp(),)) == 400
    assert kernels.bytes_kept(operation, lambda x: ((x.exp() * 2).sin(),)) == 800


def test_the_kernel_of_attention_is_what_ran():
    q = torch.randn(1, 2, 9, 16, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        plain = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        flash = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert libraries.attention_kernel(plain) == "math"
    assert libraries.attention_kernel(flash.transpose(1, 2)) == "flash (CPU)"


def test_attention_that_falls_back_to_plain_products_is_noted():
    assert libraries.attention_check("cpu").status == "ok"
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        check = libraries.attention_check("cpu")
    assert (check.status, check.about_speed) == ("note", True)
    assert "math for plain rows, math for packed documents" in check.text


def test_a_torch_without_onednn_is_noted_with_what_it_reaches(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    rates = {"fp32": 4e10, "bf16": 2e9}
    check = libraries.onednn_check(INSTALL, architecture="x86_64", rates=rates)
    assert (check.status, check.about_speed) == ("note", True)
    assert check.cost.startswith("40 GFLOP/s fp32, 2 GFLOP/s bf16 is all that is reached here (measured)")
    assert libraries.onednn_check(INSTALL, architecture="arm64").status == "ok", "other systems bring their own"
