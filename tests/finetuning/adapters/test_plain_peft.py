"""Adapters of ours load in plain peft, in a process that knows nothing else of us, and adapters of peft in ours."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetuning.adapters.small_adapters import logits, save_trained, small_wrapped, train
from mamba_slm.core.errors import CheckpointError
from mamba_slm.finetuning.adapters.attach import without_known_warnings
from mamba_slm.finetuning.adapters.folder import load_adapter
from mamba_slm.finetuning.adapters.settings import FULL_TENSORS, LoraSettings
from mamba_slm.model.adapter import merge
from mamba_slm.model.adapter_choice import AdapterChoice
from model.hf_models import random_tokens
from small_models import varied_model

LOAD_AND_SAY = """
import sys, torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
import mamba_slm

torch.set_num_threads(1)
base, adapter, tokens, out = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
with torch.no_grad():
    tokens = torch.tensor(eval(tokens))
    learned = model(input_ids=tokens).logits
    merged = model.merge_and_unload()(input_ids=tokens).logits
save_file({"learned": learned, "merged": merged}, out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dora", [False, True], ids=["lora and small tensors", "dora"])
def test_plain_peft_computes_what_we_trained(dora, tmp_path):
    settings = LoraSettings(rank=4, dora=dora, full=() if dora else tuple(FULL_TENSORS))
    model = save_trained(tmp_path / "adapter", tmp_path / "base", settings)
    tokens = repr(random_tokens(2, 17, seed=9).tolist())
    command = [sys.executable, "-c", LOAD_AND_SAY, *map(str, (tmp_path / "base", tmp_path / "adapter", tokens))]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "out")
    torch.testing.assert_close(found["learned"], logits(model), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["merged"], logits(model), rtol=1e-5, atol=1e-5)


def test_an_adapter_that_peft_saved_is_merged_and_loaded(tmp_path):
    import peft

    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["in_proj", "down_proj"], rank_pattern={"down_proj": 2},
        alpha_pattern={"sublayers.0.mixer.in_proj": 3}, task_type="CAUSAL_LM",
    )  # fmt: skip
    with without_known_warnings():
        model = train(peft.get_peft_model(small_wrapped(), config))
    model.save_pretrained(tmp_path / "theirs")
    ours = varied_model()
    merge(ours, [AdapterChoice(folder=tmp_path / "theirs")])
    with torch.no_grad():
        torch.testing.assert_close(ours(random_tokens(2, 17, seed=9)), logits(model), rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(load_adapter(small_wrapped(), tmp_path / "theirs")), logits(model))


def test_a_part_of_a_pair_that_is_missing_is_said(tmp_path):
    save_trained(tmp_path / "adapter", tmp_path / "base", LoraSettings(rank=2))
    file = tmp_path / "adapter/adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="has the parts A"):
        merge(varied_model(), [AdapterChoice(folder=tmp_path / "adapter")])
    with pytest.raises(CheckpointError, match=r"does not fit its adapter_config\.json"):
        load_adapter(small_wrapped(), tmp_path / "adapter")
