"""A kernel is taken when it is installed and does not refuse; otherwise PyTorch's way goes on."""

import torch

from mamba_slm.ops.kernels import Kernel, install_kernel, installed_kernels, loaded_kernel, without_kernels

DOUBLE = Kernel(name="test", run=lambda x: 2 * x, refuses=lambda x: "negative" if x < 0 else None)


def test_a_kernel_is_found_by_operation_and_device_unless_it_refuses():
    with without_kernels():
        assert loaded_kernel("double", "cpu", 1) is None
        install_kernel("double", "cpu", DOUBLE)
        found = loaded_kernel("double", "cpu", 1)
        assert found is not None and found(3) == 6
        assert loaded_kernel("double", "cpu", -1) is None
        assert loaded_kernel("double", "cuda", 1) is None
        assert installed_kernels() == {("double", "cpu"): DOUBLE}


def test_what_is_installed_inside_a_block_without_kernels_ends_with_it():
    with without_kernels():
        install_kernel("double", "cpu", DOUBLE)
        with without_kernels():
            assert loaded_kernel("double", "cpu", 1) is None
            install_kernel("triple", "cpu", DOUBLE)
        assert list(installed_kernels()) == [("double", "cpu")]
    assert ("double", "cpu") not in installed_kernels()


def test_the_compiler_sees_pytorchs_way():
    seen = []

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x):
        seen.append(loaded_kernel("double", "cpu", 1) is None)
        return x + 1

    with without_kernels():
        install_kernel("double", "cpu", DOUBLE)
        compiled(torch.ones(2))
    assert seen == [True]
