"""Several adapters as one do what they do together, as peft combines them."""

import pytest
import torch

from finetuning.adapters.small_adapters import logits, save_trained, small_wrapped
from mamba_slm.core.errors import CheckpointError, UsageError
from mamba_slm.finetuning.adapters.combine import combine_adapters, combined
from mamba_slm.finetuning.adapters.folder import load_adapter
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.model.adapter import merge
from mamba_slm.model.adapter_choice import AdapterChoice
from mamba_slm.model.adapter_folder import LowRank
from model.hf_models import random_tokens
from small_models import varied_model

WEIGHTS = {"one": 0.7, "two": -0.4}
PEFT_NAMES = {"concatenate": "cat", "svd": "svd", "linear": "linear"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("combined")
    save_trained(found / "one", found / "base", LoraSettings(rank=2))
    save_trained(found / "two", found / "base", LoraSettings(rank=2, rslora=True), seed=5)
    save_trained(found / "full", found / "base", LoraSettings(rank=3, targets=("q_proj",), full=("D", "norms")), seed=6)
    save_trained(found / "dora", found / "base", LoraSettings(rank=2, dora=True), seed=7)
    return found


def choices(folder, **weights):
    return [AdapterChoice(folder=folder / name, weight=weight) for name, weight in weights.items()]


@pytest.mark.parametrize("how", PEFT_NAMES)
def test_it_is_what_peft_makes_of_them(how, folder, tmp_path):
    combine_adapters(choices(folder, **WEIGHTS), tmp_path / "out", how=how)
    ours = load_adapter(small_wrapped(), tmp_path / "out", "combined")
    theirs = small_wrapped()
    for name in WEIGHTS:
        theirs = load_adapter(theirs, folder / name, name)
    theirs.base_model.add_weighted_adapter([*WEIGHTS], [*WEIGHTS.values()], "both", combination_type=PEFT_NAMES[how])
    theirs.base_model.set_adapter("both")
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-4)


def test_concatenated_is_exactly_the_sum_small_tensors_included(folder, tmp_path):
    together = varied_model()
    merge(together, choices(folder, one=0.5, full=2.0))
    combine_adapters(choices(folder, one=0.5, full=2.0), tmp_path / "out")
    loaded = load_adapter(small_wrapped(), tmp_path / "out", "combined")
    with torch.no_grad():
        torch.testing.assert_close(logits(loaded), together(random_tokens(2, 17, seed=9)), rtol=1e-5, atol=1e-5)
    assert loaded.peft_config["combined"].r == 5  # q_proj has both, the others the rank of one


def test_svd_is_the_nearest_of_its_rank():
    generator = torch.Generator().manual_seed(3)
    parts = [
        (
            weight,
            LowRank(A=torch.randn(rank, 9, generator=generator), B=torch.randn(7, rank, generator=generator), scale=2),
        )
        for weight, rank in ((1.0, 3), (-0.5, 2))
    ]
    whole = sum(weight * one.delta() for weight, one in parts)
    torch.testing.assert_close(combined(parts, "concatenate").delta(), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(combined(parts, "svd", 5).delta(), whole, rtol=1e-5, atol=1e-4)
    U, values, Vh = torch.linalg.svd(whole)
    best = (U[:, :2] * values[:2]) @ Vh[:2]
    cut = combined(parts, "svd", 2)
    assert cut.A.shape == (2, 9) and cut.B.shape == (7, 2)
    torch.testing.assert_close(cut.delta(), best, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_combined_is_refused(folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="DoRA"):
        combine_adapters(choices(folder, one=1, dora=1), out)
    with pytest.raises(UsageError, match="ranks 2, 3"):
        combine_adapters(choices(folder, one=1, full=1), out, how="linear")
    with pytest.raises(UsageError, match="svd alone"):
        combine_adapters(choices(folder, one=1, two=1), out, rank=3)
    described = folder / "full/mamba_slm_adapter.json"
    kept = described.read_text()
    described.write_text(kept.replace('"base_fingerprint": "', '"base_fingerprint": "0'))
    with pytest.raises(CheckpointError, match="different models"):
        combine_adapters(choices(folder, one=1, full=1), out)
    described.write_text(kept)
    assert not out.exists()
