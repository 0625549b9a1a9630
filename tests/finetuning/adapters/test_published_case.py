"""The published LoRA of the 68M demonstration: rank 8, alpha 16, targets qkv, o_proj and mlp, "65,536 parameters".

Each matrix [o i] of rank 8 adds 8 · (o + i). Of four layers half attend, 256 wide, and only these have a feed-forward:

    qkv in one matrix  [768 256]    1,024
    o_proj             [256 256]      512
    mlp, up            [1024 256]   1,280
    mlp, down          [256 1024]   1,280      together 4,096, times rank 8, times 2 layers: 65,536

So nothing of the two Mamba layers had an adapter, and the feed-forward had two matrices. Ours is a SwiGLU (gate and up
in one matrix [2048 256]), and q, k and v are three matrices with an adapter each; beside them there are the in_proj
[1288 256] and the out_proj [256 512] of both Mamba layers.
"""

import pytest

from mamba_slm.finetuning.adapters.attach import attach
from mamba_slm.finetuning.adapters.coverage import coverage
from mamba_slm.finetuning.adapters.settings import LoraSettings
from mamba_slm.model.hf import HybridSlmForCausalLM
from mamba_slm.model.init import build_model
from mamba_slm.model.presets import preset

RANK = 8
PUBLISHED = 65_536
THEIR_LAYERS = 2
THEIR_SHAPES = ((768, 256), (256, 256), (1024, 256), (256, 1024))


def test_the_published_number_is_that_of_two_attention_layers_with_a_plain_mlp():
    assert THEIR_LAYERS * RANK * sum(o + i for o, i in THEIR_SHAPES) == PUBLISHED


@pytest.mark.parametrize(
    "targets, parameters, reached",
    [
        (("q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"), 90_112, 4),
        (("all",), 127_104, 6),
    ],
    ids=["their parts", "every part"],
)
def test_ours(targets, parameters, reached):
    config = preset("demo", vocab_size=512)  # no adapter is as long as the vocabulary
    assert config.pattern.count("*") == THEIR_LAYERS == config.pattern.count("M") == config.pattern.count("-")
    model = HybridSlmForCausalLM.from_language_model(build_model(config, seed=0))
    found = coverage(attach(model, LoraSettings(rank=RANK, alpha=16, dropout=0.05, targets=targets)))
    assert (found.num_trainable, found.num_reached, found.num_sublayers) == (parameters, reached, 6)
