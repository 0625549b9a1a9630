"""Two models of any format are compared on random tokens and text, and so are their tokenizers."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from export.their_models import MULTIPLIERS, save_granite
from mamba_slm.core.errors import CheckFailedError
from mamba_slm.export.hf.export import export_hf
from mamba_slm.export.trace import open_runner
from mamba_slm.export.verify import compare_tokenizers, first_difference, require_verified, verify, verify_runners
from mamba_slm.text.train_tokenizer import train_tokenizer
from small_models import save_small_model


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    model = save_small_model(root / "model")
    export_hf(model, root / "out")
    return model, root / "out"


def test_a_model_and_its_export_are_equal(pair):
    found = verify(*pair)
    assert found.problems == []
    assert found.random.max_logit_error <= 1e-4
    assert found.text.num_tokens > 200
    assert found.text.perplexity_a == pytest.approx(found.text.perplexity_b, rel=1e-4)
    assert found.tokenizers.equal
    require_verified(found)


def test_a_changed_weight_is_found_and_its_layer_named(pair, tmp_path):
    folder = save_granite(tmp_path / "a", **MULTIPLIERS, position_embedding_type=None)
    other = save_granite(tmp_path / "b", **MULTIPLIERS, position_embedding_type=None)
    assert verify(folder, other).problems == []
    tensors = load_file(other / "model.safetensors")
    tensors["model.layers.1.shared_mlp.output_linear.weight"][2, 2] += 5
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    found = verify(folder, other)
    assert [part.first_drift for part in found.parts.values()] == ["layer 1 feed-forward"] * 2
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 1 feed-forward"):
        require_verified(found)
    assert verify(folder, other, tolerance=1e3).problems == []


def test_sequences_keep_to_the_shorter_context(pair, tmp_path):
    long = save_granite(tmp_path, max_position_embeddings=40)
    found = verify(pair[0], long, num_tokens=1000)
    assert found.random.num_tokens == 2 * 40


def test_tokenizers_that_differ_are_a_problem_and_no_text_is_compared(pair, tmp_path):
    other = save_small_model(tmp_path / "other")
    train_tokenizer(["quite another text, " * 20], vocab_size=270).save(other)
    found = verify(pair[0], other)
    assert found.text is None
    assert found.random.max_logit_error == 0
    assert found.problems == [f"the tokenizers differ from token {found.tokenizers.first_difference} of a text on"]
    assert found.tokenizers.tokens_a != found.tokenizers.tokens_b


def test_one_tokenizer_is_enough_for_text(pair, tmp_path):
    without = save_small_model(tmp_path / "without")
    (without / "tokenizer.json").unlink()
    for a, b in [(pair[0], without), (without, pair[0])]:
        found = verify_runners(open_runner(a), open_runner(b), text="def f():\n    return 1\n")
        assert found.tokenizers is None
        assert found.text.max_logit_error == 0
    assert verify(without, without).text is None


def test_a_text_is_the_same_for_equal_tokenizers(pair):
    a, b = map(open_runner, pair)
    assert compare_tokenizers(a, b, "naïve 語 😀\t\n").equal


@pytest.mark.parametrize(
    ("a", "b", "place"), [([], [], None), ([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1], [1, 2], 1), ([1], [], 0)]
)
def test_the_first_difference_is_where_two_sequences_part(a, b, place):
    assert first_difference(a, b) == place


def test_sixteen_bit_weights_are_within_a_tolerance_of_theirs(pair, tmp_path):
    export_hf(pair[0], tmp_path / "half", dtype=torch.bfloat16)
    found = verify(pair[0], tmp_path / "half")
    assert len(found.problems) == 1
    assert found.random.argmax_agreement > 0.8
    assert verify(pair[0], tmp_path / "half", tolerance=1.0).problems == []
