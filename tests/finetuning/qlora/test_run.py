"""Promises about whole runs with --method qlora: they learn, leave an adapter and a merged model, and need the memory
that was estimated."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from mamba_slm.core.config import to_dict
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.model.checkpoint import load_config, load_model, save_model
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset
from mamba_slm.training.publishing import complete_for_transformers
from small_models import VOCAB_SIZE, small_tokenizer

pytest.importorskip("bitsandbytes")
pytest.importorskip("peft")

CONFIG = ModelConfig(
    pattern="M-*-M-", vocab_size=VOCAB_SIZE, hidden_size=64, num_heads=2, num_kv_heads=1, feed_forward_size=96,
    state_size=16, ssm_head_dim=32, chunk_size=8, max_context_tokens=128,
)  # fmt: skip
COLOURS = ("red", "blue", "green", "pink", "grey", "black")
BASIS = FinetuneConfig(
    method="qlora", rank=4, alpha=8, context_tokens=96, batch_tokens=384, max_steps=6, learning_rate=1e-2,
    validation_share=0.2, sample_every_steps=0, device="cpu", precision="fp32", kernels="torch", threads=1,
)  # fmt: skip
CLOSE = 0.15


def given(folder, config, *, words=1):
    """A model folder with a tokenizer, and a file of conversations."""
    model = folder / "model"
    model.mkdir(parents=True)
    save_model(build_model(config, seed=0), model)
    small_tokenizer().save(model)
    complete_for_transformers(model)
    answers = [f"It is {colour}. " * words for colour in COLOURS]
    rows = [{"instruction": f"Colour {n}?", "output": answers[n % len(answers)]} for n in range(48)]
    (folder / "colours.json").write_text(json.dumps(rows))
    return {"model": str(model), "data": (str(folder / "colours.json"),)}


def test_a_run_learns_and_leaves_an_adapter_and_the_model_that_was_trained(tmp_path):
    from mamba_slm.finetuning.run import finetune

    said = []
    config = replace(BASIS, **given(tmp_path, CONFIG), merge=True)
    result = finetune(config, run=tmp_path / "run", say=said.append)
    assert result.loss_after < result.loss_before
    assert result.adapter is not None and result.model is not None
    assert any("rounding to bfloat16 changed a matrix by at most 0." in line for line in said)
    assert any("in 6 of 6 sublayers" in line for line in said)
    merged = load_model(result.model, dtype=torch.bfloat16)
    assert load_config(result.model) == CONFIG and merged.sublayers[0].mixer.in_proj.weight.dtype == torch.bfloat16
    base = load_model(config.model)
    change = merged.sublayers[0].mixer.in_proj.weight.float() - base.sublayers[0].mixer.in_proj.weight
    assert change.abs().max() > 0


MEASURED = """
import json, sys
from mamba_slm.core.config import from_dict
from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.run import finetune
from mamba_slm.training.memory import peak_memory_bytes

config = from_dict(FinetuneConfig, json.loads(sys.argv[1]), where="settings to measure")
finetune(config, run=sys.argv[2], say=lambda line: None)
print(peak_memory_bytes("cpu"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, changes",
    [
        ("60M", {"micro_batch_rows": 1, "batch_tokens": 512}),
        ("tiny", {"precision": "bf16"}),
        ("tiny", {"method": "lora", "gradient_checkpointing": True}),
    ],
    ids=["60M qlora", "tiny qlora in bf16", "tiny lora, checkpointed"],
)
def test_two_real_steps_need_what_was_estimated(name, changes, tmp_path):
    """Of a process that does nothing else: validation, steps, and writing the adapter."""
    settings = {"rank": 16, "context_tokens": 512, "batch_tokens": 2048, "micro_batch_rows": 4, "max_steps": 2}
    settings |= {"kernels": "auto", **changes}
    config = replace(BASIS, **given(tmp_path, preset(name), words=60), **settings)
    program = [sys.executable, "-c", MEASURED, json.dumps(to_dict(config)), str(tmp_path / "run")]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    measured = int(done.stdout.splitlines()[-1])
    estimated = json.loads((tmp_path / "run" / "run.json").read_text())["estimate"]["memory_bytes"]
    print(f"{name}: estimated {estimated:,.0f}, measured {measured:,}")
    assert estimated / measured == pytest.approx(1, abs=CLOSE)
