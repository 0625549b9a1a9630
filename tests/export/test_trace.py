"""A model of ours as a runner: its logits, and the residual stream under names that every format shares."""

import pytest
import torch

from mamba_slm.core.errors import DataError
from mamba_slm.export.hf.runner import HfRunner
from mamba_slm.export.trace import OurRunner, open_ours, open_runner, residual_names
from small_models import save_small_model, small_tokenizer
from tolerances import assert_close

TOKENS = [5, 9, 200, 7, 0, 31]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("M-*-", ["layer 0 Mamba-2", "layer 0 feed-forward", "layer 1 attention", "layer 1 feed-forward"]),
        ("M*-", ["layer 0 Mamba-2", "layer 1 attention", "layer 1 feed-forward"]),
        ("M--", ["layer 0 Mamba-2", "layer 0 feed-forward", "layer 0 feed-forward 2"]),
        ("-M", ["layer 0 feed-forward", "layer 0 Mamba-2"]),
    ],
)
def test_every_point_of_the_residual_stream_has_its_own_name(pattern, names):
    assert residual_names(pattern) == ["embedding", *names, "final norm"]


@pytest.mark.parametrize("pattern", ["M-" * 20, "-" * 12, "M*--M---" * 3])
def test_no_two_points_share_a_name(pattern):
    names = residual_names(pattern)
    assert len(names) == len(set(names)) == len(pattern) + 2


def test_the_residual_stream_leads_to_the_logits(tmp_path):
    runner = open_ours(save_small_model(tmp_path / "model"))
    trace = runner.trace(TOKENS, residuals=True)
    assert trace.logits.equal(runner.trace(TOKENS).logits)
    assert runner.trace(TOKENS).residuals == ()
    points = dict(trace.residuals)
    model = runner.source.model
    assert list(points) == residual_names(model.config.pattern)
    assert points["embedding"].equal(model.embedding(torch.tensor(TOKENS)))
    assert_close(model.final_norm(points["layer 2 feed-forward"]), points["final norm"], 1e-6)
    assert_close(model.logits(points["final norm"]), trace.logits, 1e-6)


def test_a_runner_says_what_it_is_and_encodes_text(tmp_path):
    folder = save_small_model(tmp_path / "model")
    runner = open_runner(folder)
    assert isinstance(runner, OurRunner)
    assert (runner.description, runner.vocab_size, runner.max_tokens) == ("mamba-slm, float32", 320, 48)
    assert runner.encode("def f():") == small_tokenizer().encode("def f():")
    (folder / "tokenizer.json").unlink()
    assert open_runner(str(folder)).encode("def f():") is None


def test_a_folder_of_hugging_face_is_opened_by_transformers(tmp_path):
    from export.their_models import save_granite

    assert isinstance(open_runner(save_granite(tmp_path)), HfRunner)


def test_what_is_no_model_is_refused_with_what_would_be_one(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match="not a model in a format") as caught:
            open_runner(path)
        assert ".gguf" in caught.value.hint
