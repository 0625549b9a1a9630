"""A server notices that its model's files were replaced, and is not fooled by a touch."""

import os
import shutil

import pytest

from mamba_slm.model.checkpoint import save_model
from mamba_slm.model.fingerprint import fingerprint_of_folder
from mamba_slm.serving.model_files import ModelFiles, ModelReplacedError
from small_models import save_small_model, varied_model


@pytest.fixture
def folder(tmp_path):
    return save_small_model(tmp_path / "small")


def test_nothing_is_wrong_as_long_as_the_weights_are_the_same(folder):
    files = ModelFiles(folder, fingerprint_of_folder)
    assert files.reason_changed() is None
    os.utime(folder / "model.safetensors", (1, 1))
    shutil.copyfile(folder / "model.safetensors", folder / "new")
    os.replace(folder / "new", folder / "model.safetensors")
    (folder / "notes.txt").write_text("not of the model", encoding="utf-8")
    assert files.reason_changed() is None
    files.require_unchanged()


@pytest.mark.parametrize("how", ["another model", "cut", "gone"])
def test_other_weights_damaged_ones_and_none_are_refused_with_the_way_out(folder, how):
    files = ModelFiles(folder, fingerprint_of_folder)
    weights = folder / "model.safetensors"
    if how == "another model":
        save_model(varied_model(seed=9), folder)
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:-50])
    else:
        weights.unlink()
    with pytest.raises(ModelReplacedError, match="are not those that this server runs") as caught:
        files.require_unchanged()
    assert str(folder) in caught.value.message and "start the server again" in caught.value.hint
    assert files.reason_changed() == caught.value.message


def test_files_that_come_back_are_accepted_again(folder):
    files = ModelFiles(folder, fingerprint_of_folder)
    shutil.copytree(folder, folder.parent / "kept")
    save_model(varied_model(seed=9), folder)
    assert files.reason_changed() is not None
    shutil.copytree(folder.parent / "kept", folder, dirs_exist_ok=True)
    assert files.reason_changed() is None


def test_without_a_fingerprint_every_change_counts(folder):
    files = ModelFiles(folder, None)
    assert files.reason_changed() is None
    os.utime(folder / "model.safetensors", (1, 1))
    assert files.reason_changed() is not None
