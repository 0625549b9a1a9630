"""Promises of adapters in the compiled step: PyTorch's numbers, and those of a row do not depend on the other rows."""

import pytest
import torch

from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.model.init import build_model
from mamba_slm.ops.native.library import missing_for_native
from mamba_slm.serving.adapters.executor import with_adapters
from mamba_slm.serving.engine.executor import CompiledExecutor, ReadPiece, TorchExecutor
from mamba_slm.serving.memory.pool import Pool
from serving.adapters.adapted_engine import store_of
from serving.adapters.adapter_folders import SMALL, write_adapter
from serving.engines import random_prompts
from serving.memory.test_pool import BASE
from tolerances import assert_close, tolerance_of

pytestmark = pytest.mark.skipif(missing_for_native() is not None, reason=str(missing_for_native()))

KINDS = {
    "few": {"seed": 1, "rank": 1, "parts": ("out_proj", "down_proj")},
    "many": {"seed": 2, "rank": 9},
    "narrow": {"seed": 3, "rank": 4, "parts": ("in_proj", "k_proj")},
    "dora": {"seed": 4, "rank": 5, "dora": True},
    "own": {"seed": 5, "rank": 2, "full": SMALL},
}
ROWS = ["", "many", "few", "many", "narrow", "", "own"]
PROMPTS = random_prompts([17, 1, 8, 22, 5, 9, 4], vocab_size=40)


def model_of(dtype):
    return build_model(BASE, seed=1).eval().requires_grad_(False).to(dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("adapters")
    for name, settings in KINDS.items():
        write_adapter(place / name, model_of(torch.float32), **settings)
    return place


class Rows:
    """Sequences with adapters that have read a prompt each."""

    def __init__(self, kind, folder, names, prompts, *, dtype=torch.float32, **settings):
        model = model_of(dtype)
        self.pool = Pool(model.config, slots=8, blocks=60, block_tokens=4, device=torch.device("cpu"), dtype=dtype)
        store = store_of(model, folder)
        if kind == "torch":
            base = TorchExecutor(model, self.pool, **settings)
        else:
            base = CompiledExecutor(CompiledRuntime(model), self.pool, **settings)
        self.executor = with_adapters(base, store)
        self.sequences = []
        for name, prompt in zip(names, prompts, strict=True):
            sequence = self.pool.open()
            sequence.adapter = store.get(name).key if name else ""
            assert self.pool.grow(sequence, len(prompt))
            self.executor.read([ReadPiece(sequence=sequence, tokens=prompt)])
            self.sequences.append(sequence)

    def step(self, token):
        assert all(self.pool.grow(sequence, 1) for sequence in self.sequences)
        return self.executor.step(self.sequences, [token] * len(self.sequences))


@pytest.mark.parametrize("names", [ROWS, [*ROWS[:-1], "dora"], ["dora"] * 7, ["few"] * 7], ids=str)
def test_the_compiled_step_adds_what_pytorch_adds(folder, names):
    plain, compiled = (Rows(kind, folder, names, PROMPTS) for kind in ("torch", "compiled"))
    for token in (4, 9, 4):
        assert_close(compiled.step(token), plain.step(token), tolerance_of("model").values)


def test_in_bfloat16_it_stays_as_near_as_rounding_allows(folder):
    found = Rows("compiled", folder, ["many", "dora", ""], PROMPTS[:3], dtype=torch.bfloat16).step(5)
    exact = Rows("torch", folder, ["many", "dora", ""], PROMPTS[:3]).step(5)
    assert (found - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_is_the_same_to_the_last_bit_alone_and_among_others_for_any_number_of_threads(folder, threads):
    alone = [
        Rows("compiled", folder, [name], [prompt], is_batch_invariant=True).step(7)[0]
        for name, prompt in zip(ROWS, PROMPTS, strict=True)
    ]
    together = Rows("compiled", folder, ROWS, PROMPTS, is_batch_invariant=True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        logits = together.step(7)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(row, one) for row, one in zip(logits, alone, strict=True))
