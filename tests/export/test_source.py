"""What an export starts from is checked before anything is written."""

import pytest
import torch

from mamba_slm.core.errors import CheckpointError, DataError
from mamba_slm.export.source import open_source
from mamba_slm.model.checkpoint import save_model
from small_models import VOCAB_SIZE, save_small_model, small_tokenizer, varied_model


def test_a_model_folder_is_opened_in_float32_with_its_tokenizer(tmp_path):
    source = open_source(save_small_model(tmp_path / "model"))
    assert source.folder == tmp_path / "model"
    assert source.config.vocab_size == VOCAB_SIZE
    assert {parameter.dtype for parameter in source.model.parameters()} == {torch.float32}
    assert not source.model.training
    assert source.tokenizer.vocab_size <= VOCAB_SIZE


def test_a_run_directory_means_its_finished_model(tmp_path):
    save_small_model(tmp_path / "run" / "model")
    assert open_source(tmp_path / "run").folder == tmp_path / "run" / "model"


def test_a_missing_tokenizer_is_refused_unless_none_is_needed(tmp_path):
    folder = save_small_model(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        open_source(folder)
    assert open_source(folder, needs_tokenizer=False).tokenizer is None


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    save_model(varied_model(vocab_size=64), tmp_path)
    small_tokenizer().save(tmp_path)
    with pytest.raises(CheckpointError, match="a model of 64"):
        open_source(tmp_path)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a model"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "nothing")
