"""Promises of the layout: names and shapes of the file, and a way back for every tensor."""

import pytest
import torch

from export.gguf.small_gguf_models import VARIANTS, model_of, small_config
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.export.gguf.layout import (
    ABSENT_FEED_FORWARD,
    absent_feed_forward_parameters,
    decay_rates,
    feed_forward_size,
    layers_of,
    layout,
    our_tensors,
    pairs_adjacent,
    pairs_apart,
    require_exportable,
    with_padded_vocabulary,
)
from mamba_slm.model.config import ModelConfig


def values_of(config):
    """Every tensor of the file as torch tensors."""
    tensors = model_of(config).state_dict()
    return {each.name: torch.from_numpy(each.make(tensors)) for each in layout(config)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_tensor_of_the_model_comes_back(variant):
    config = small_config(variant)
    stored = values_of(config)
    assert {each.name: each.shape for each in layout(config)} == {n: tuple(t.shape) for n, t in stored.items()}
    full = small_config(variant, pattern="".join(kind + "-" for kind, _, _ in layers_of(config.pattern)))
    found = our_tensors(stored, ModelConfig(**{**vars(full), "feed_forward_size": feed_forward_size(config)}))
    rename = {}
    for layer, (_, mixer, feed_forward) in enumerate(layers_of(config.pattern)):
        rename |= {f"sublayers.{2 * layer}.": f"sublayers.{mixer}."}
        if feed_forward is not None:
            rename |= {f"sublayers.{2 * layer + 1}.": f"sublayers.{feed_forward}."}
    ours = dict(model_of(config).state_dict())
    for name, tensor in found.items():
        prefix = next((prefix for prefix in rename if name.startswith(prefix)), "")
        source = name.replace(prefix, rename[prefix], 1) if prefix else name
        if name.startswith("sublayers.") and not prefix:
            assert not tensor.any() or name.endswith("norm.weight"), name  # a feed-forward of zeros
            continue
        torch.testing.assert_close(tensor, ours.pop(source), rtol=1e-6, atol=0)
    assert not ours


def test_the_tensors_of_one_layer_have_the_names_that_llama_cpp_asks_for():
    names = {each.name: each.shape for each in layout(small_config("two groups"))}
    c = small_config("two groups")
    assert names["blk.0.ssm_in.weight"] == (c.in_proj_size, 256)
    assert names["blk.0.ssm_conv1d.weight"] == (c.conv_size, 4)
    assert names["blk.0.ssm_a"] == names["blk.0.ssm_d"] == (c.num_ssm_heads, 1)
    assert names["blk.0.ssm_norm.weight"] == (2, c.inner_size // 2)
    assert names["blk.1.attn_k.weight"] == (128, 256)
    assert "blk.1.ssm_in.weight" not in names
    assert "output.weight" not in names
    assert "output.weight" in {each.name for each in layout(small_config("untied"))}


def test_the_file_holds_decay_rates_and_not_their_logarithms():
    a_log = torch.tensor([0.0, 1.0])
    assert decay_rates(a_log).tolist() == pytest.approx([-1.0, -2.7182817])
    config = small_config()
    stored = values_of(config)["blk.0.ssm_a"]
    torch.testing.assert_close(stored[:, 0], -model_of(config).state_dict()["sublayers.0.mixer.A_log"].exp())


@pytest.mark.parametrize("heads, rows", [(1, 8), (2, 8), (3, 12), (2, 6)])
def test_channels_that_rotate_together_become_neighbours(heads, rows):
    weight = torch.arange(rows * 3.0).reshape(rows, 3)
    moved = pairs_adjacent(weight, heads)
    assert torch.equal(pairs_apart(moved, heads), weight)
    per_head, half = rows // heads, rows // heads // 2
    if per_head % 2:
        assert torch.equal(moved, weight)
        return
    for head in range(heads):
        for channel in range(half):
            first = head * per_head + channel
            assert torch.equal(moved[head * per_head + 2 * channel], weight[first])
            assert torch.equal(moved[head * per_head + 2 * channel + 1], weight[first + half])


def test_a_layer_without_a_feed_forward_costs_what_is_said():
    config = small_config("classic")  # MM*-M*-: three of five layers have none
    absent = [each for each in layout(config) if each.is_matrix and not each.sources]
    assert len(absent) == 3 * 3
    assert sum(each.shape[0] * each.shape[1] for each in absent) == absent_feed_forward_parameters(config)
    assert absent_feed_forward_parameters(small_config()) == 0
    assert feed_forward_size(small_config("no feed-forward")) == ABSENT_FEED_FORWARD


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"position": "alibi"}, "position alibi cannot be written as GGUF"),
        ({"attention_window": 16}, "attention_window 16 cannot be written as GGUF"),
        ({"expand": 1}, "expand 1 cannot be written as GGUF"),
        ({"pattern": "M--*-"}, r"pattern M--\*- cannot be written as GGUF"),
        ({"pattern": "-M*"}, r"pattern -M\* cannot be written as GGUF"),
        ({"pattern": "M-M-"}, "has no attention layer"),
        ({"pattern": "*-*-"}, "has no Mamba-2 layer"),
        ({"vocab_size": 324}, "vocab_size 324 is not a multiple of 8"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused_by_name(changed, message):
    with pytest.raises(ConfigError, match=message) as caught:
        require_exportable(small_config(**changed))
    assert caught.value.hint


def test_a_padded_vocabulary_adds_rows_of_zeros_and_changes_nothing_else():
    model = model_of(small_config(vocab_size=323, tie_embeddings=False))
    padded = with_padded_vocabulary(model)
    assert padded.config.vocab_size == 328
    assert with_padded_vocabulary(padded) is padded
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        found, expected = padded(tokens), model(tokens)
    assert torch.equal(found[..., :323], expected)
    assert not found[..., 323:].any()


def test_tensors_that_do_not_fit_are_named():
    config = small_config()
    stored = values_of(config)
    with pytest.raises(DataError, match=r"blk\.1\.attn_q\.weight is missing, expected \(256, 256\)"):
        our_tensors({name: each for name, each in stored.items() if name != "blk.1.attn_q.weight"}, config)
    with pytest.raises(DataError, match=r"rope_freqs\.weight is \(32,\), expected absent"):
        our_tensors({**stored, "rope_freqs.weight": torch.ones(32)}, config)
