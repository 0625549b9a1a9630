"""The road to good models, end to end: a Llama trained by transformers becomes a hybrid that is as good."""

import json
import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch
from mamba_slm.finetuning.conversion.distill import distill
from mamba_slm.finetuning.conversion.distillation import TRAINING
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.model.checkpoint import load_config
from mamba_slm.text.train_tokenizer import train_tokenizer
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.run import train
from trained_model import STORIES, stories

ROW, ROWS = 256, 8
TEACHER_STEPS = 480
STEPS = TEACHER_STEPS // 5
"""Of the conversion, and of the same hybrid from scratch."""
SIZES = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 384,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
COMMON = {
    "context_tokens": ROW,
    "batch_tokens": ROW * ROWS,
    "max_steps": STEPS,
    "device": "cpu",
    "validate_every_steps": 1000,
    "save_every_steps": 1000,
    "sample_every_steps": 0,
    "layers_every_steps": 0,
    "keep_last": 1,
}


def trained_llama(tokens, seed=0):
    """A Llama of transformers trained on random rows of the tokens: its own code, its own loss."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    generator = torch.Generator().manual_seed(seed)
    for step in range(TEACHER_STEPS):
        done = (step + 1) / TEACHER_STEPS
        rate = 4e-3 * min(1, (step + 1) / 20) * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        starts = torch.randint(0, len(tokens) - ROW, (ROWS,), generator=generator)
        rows = torch.stack([tokens[start : start + ROW] for start in starts])
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(rows, labels=rows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.long
def test_a_converted_llama_is_nearly_as_good_as_the_llama_after_a_fifth_of_its_tokens(tmp_path):
    if not STORIES.is_file():
        pytest.skip("needs ../shared/data, which is not here")
    training, held_out = stories()
    tokenizer = train_tokenizer(iter(training), vocab_size=SIZES["vocab_size"])
    for name, texts in (("training", training), ("held-out", held_out)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(training)]
    tokens = torch.cat([torch.as_tensor(one.astype("int64")) for one in encode_batch(tokenizer, documents)])
    llama = tmp_path / "llama"
    trained_llama(tokens).save_pretrained(llama)
    tokenizer.save(llama)
    data = {"data": (str(tmp_path / "training.jsonl"),), "validation": str(tmp_path / "held-out.jsonl")}

    learning = TrainConfig(**{**TRAINING, **COMMON, **data}, learning_rate=2e-3)
    found = distill(llama, learning, tmp_path / "run", shape=HybridShape(), command=("test",))
    hybrid = load_config(tmp_path / "run" / "model")
    assert (hybrid.num_attention, hybrid.num_layers) == (2, 6)
    assert found.result.tokens <= TEACHER_STEPS * ROWS * ROW / 4

    sizes = ("hidden_size", "num_heads", "num_kv_heads", "feed_forward_size", "state_size", "ssm_head_dim")
    beginning = TrainConfig(
        **COMMON, **data, tokenizer=str(llama), learning_rate=4e-3, pattern=hybrid.pattern,
        model_settings=tuple(f"{name}={getattr(hybrid, name)}" for name in sizes),
    )  # fmt: skip
    scratch = train(beginning, run=tmp_path / "scratch", command=("test",))
    losses = (found.loss, found.teacher_loss, scratch.best_validation_loss)
    to_teacher, to_scratch = (math.exp(losses[0] - other) for other in losses[1:])
    assert to_teacher <= 1.10, losses
    assert to_scratch <= 0.80, losses
