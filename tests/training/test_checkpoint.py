import errno
import json
import os
import shutil

import pytest
import torch

from mamba_slm.core.errors import CheckpointError, DiskFullError, SetupError
from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.init import build_model
from mamba_slm.training.checkpoint import (
    MANIFEST,
    load_checkpoint,
    newest_valid_checkpoint,
    prune_checkpoints,
    remove_unfinished,
    save_checkpoint,
    verify_checkpoint,
)
from mamba_slm.training.optim import build_optimizer
from mamba_slm.training.publishing import publish_model
from small_models import small_tokenizer
from training.small_run import TINY

FILES = ["config.json", "model.safetensors", "optimizer.safetensors", "trainer.json", "tokenizer.json"]


def optimizer_of(model):
    return build_optimizer(model, learning_rate=1e-2, weight_decay=0.1, betas=(0.9, 0.95), epsilon=1e-8)


@pytest.fixture
def tokenizer_file(tmp_path):
    small_tokenizer().save(tmp_path)
    return (tmp_path / "tokenizer.json").rename(tmp_path / "some-tokenizer.json")


@pytest.fixture
def save(tmp_path, tokenizer_file):
    def save(step, *, seed=0, **state):
        model = build_model(TINY, seed=seed)
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        state = {"step": step, **state}
        save_checkpoint(folder, model=model, optimizer=optimizer_of(model), state=state, tokenizer_file=tokenizer_file)
        return folder

    return save


def valid_of(folders):
    damaged = []
    return newest_valid_checkpoint(folders, on_damaged=lambda folder, why: damaged.append((folder.name, why))), damaged


def test_a_checkpoint_is_a_model_folder_with_the_trainers_state_beside_it(save):
    folder = save(7)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, MANIFEST])
    model = load_model(folder)
    assert all(map(torch.equal, model.parameters(), build_model(TINY, seed=0).parameters()))
    verify_checkpoint(folder)


def test_state_comes_back_as_it_was(save):
    folder = save(7, seed=5, place={"epoch": 1, "position": 2}, losses=[0.1, 1 / 3])
    model = build_model(TINY, seed=0)
    state = load_checkpoint(folder, model=model, optimizer=optimizer_of(model))
    assert state == {"format_version": 1, "step": 7, "place": {"epoch": 1, "position": 2}, "losses": [0.1, 1 / 3]}
    assert all(map(torch.equal, model.parameters(), build_model(TINY, seed=5).parameters()))


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, lambda path: os.truncate(path, path.stat().st_size // 2), lambda path: path.unlink()],
    ids=["flipped", "truncated", "missing"],
)
def test_damage_to_any_file_is_found_and_the_checkpoint_before_is_used(save, name, damage):
    older, newer = save(1), save(2)
    damage(newer / name)
    found, damaged = valid_of([older, newer])
    assert found == older
    assert [folder for folder, _ in damaged] == ["step-00000002"]
    assert name in damaged[0][1]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format_version": 1}', '{"format_version": 1, "files": {"a": 1}}']
)
def test_a_damaged_manifest_is_a_damaged_checkpoint(save, content):
    older, newer = save(1), save(2)
    (newer / MANIFEST).write_text(content)
    assert valid_of([older, newer])[0] == older
    (newer / MANIFEST).unlink()
    assert valid_of([older, newer])[0] == older


def test_when_every_checkpoint_is_damaged_that_is_an_error_and_not_a_fresh_start(save):
    folders = [save(1), save(2)]
    for folder in folders:
        flip_a_byte(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="all 2 checkpoints"):
        valid_of(folders)
    assert valid_of([]) == (None, [])


def test_a_checkpoint_of_a_newer_package_is_refused_and_not_called_damaged(save):
    folder = save(1)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(SetupError, match="99"):
        valid_of([folder])


def test_a_checkpoint_of_another_model_is_refused(save):
    from dataclasses import replace

    model = build_model(replace(TINY, hidden_size=64))
    with pytest.raises(CheckpointError, match="does not fit this model"):
        load_checkpoint(save(1), model=model, optimizer=optimizer_of(model))


def test_a_full_disk_leaves_the_earlier_checkpoints_and_nothing_else(save, monkeypatch):
    older = save(1)
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskFullError, match="no space left"):
        save(2)
    assert [path.name for path in older.parent.iterdir()] == ["step-00000001"]
    verify_checkpoint(older)


def test_a_really_full_disk_is_explained(tmp_path, small_disk):
    model = build_model(TINY)
    with pytest.raises(DiskFullError) as refused:
        save_checkpoint(small_disk / "step-00000001", model=model, optimizer=optimizer_of(model), state={"step": 1})
    assert "free some space" in refused.value.hint
    assert list(small_disk.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, smaller than the model."""
    import subprocess

    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_checkpoint_of_the_same_step_is_replaced(save):
    folder = save(3, seed=1)
    flip_a_byte(folder / "model.safetensors")
    assert save(3, seed=2) == folder
    verify_checkpoint(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["step-00000003"]


def test_the_newest_the_best_and_the_last_good_checkpoint_are_kept(save):
    folders = [save(step) for step in range(1, 7)]
    deleted = prune_checkpoints(folders, keep_last=2, keep=[folders[1], None, folders[3]])
    assert deleted == [folders[0], folders[2]]
    assert sorted(path.name for path in folders[0].parent.iterdir()) == [folders[i].name for i in (1, 3, 4, 5)]


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(save):
    folder = save(1)
    for name in (".step-00000002.abc123", ".step-00000001.deleted"):
        shutil.copytree(folder, folder.parent / name)
    remove_unfinished(folder.parent)
    assert [path.name for path in folder.parent.iterdir()] == ["step-00000001"]


def test_a_published_model_has_no_trainer_state_and_replaces_the_one_before(save, tmp_path):
    for seed in (1, 2):
        publish_model(save(seed, seed=seed), tmp_path / "model")
        assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "modeling_mamba_slm.py",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        model = load_model(tmp_path / "model")
        assert all(map(torch.equal, model.parameters(), build_model(TINY, seed=seed).parameters()))
    assert not list(tmp_path.glob(".model*"))
