"""A state on disk is the state: continued at any cut, in another process, and only by the model it belongs to."""

import dataclasses
import json
import os
import stat
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mamba_slm.core.errors import CheckpointError, UsageError
from mamba_slm.generation.compiled.runtime import CompiledRuntime
from mamba_slm.generation.cuda_graph import GraphRuntime
from mamba_slm.generation.loading import RuntimeSettings, load
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.states.files import checksum, load_state, read_file, save_state
from mamba_slm.generation.states.fingerprint import Fingerprint, fingerprint_of, remembered_sha256
from mamba_slm.model.packed import nearest_model
from mamba_slm.model.quantization import PLANS
from mamba_slm.ops.native.library import missing_for_native
from onnx_folders import save_onnx
from small_models import save_small_model, small_tokenizer, varied_model
from tolerances import assert_close, tolerance_of

TEXT = torch.randint(0, 320, (2, 40), generator=torch.Generator().manual_seed(7))
CUTS = (0, 1, 2, 3, 7, 8, 9, 16, 30)
"""Before the first token, inside and around the convolution's window and the chunks of 8."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory):
    """The same model in every runtime that there is here, with their fingerprints."""
    model = varied_model()
    found = {"torch": (TorchRuntime(model), None), "graph": (GraphRuntime(model, record=False), None)}
    found["bfloat16"] = (TorchRuntime(varied_model().to(torch.bfloat16)), None)
    if missing_for_native() is None:
        found["compiled"] = (CompiledRuntime(model), None)
        packed = nearest_model(varied_model(), PLANS["int8"], dtype=torch.float32)
        found["compiled int8"] = (CompiledRuntime(packed), None)
    onnx = save_onnx(model, tmp_path_factory.mktemp("onnx"))
    found["onnx"] = (open_onnx(onnx, RuntimeSettings(threads=1)).runtime, onnx)
    return {name: (runtime, fingerprint_of(runtime, folder=folder)) for name, (runtime, folder) in found.items()}


@pytest.mark.parametrize("name", ["torch", "graph", "bfloat16", "compiled", "compiled int8", "onnx"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_state_that_was_saved_at_any_cut_goes_on_to_the_bit(runtimes, name, cut, tmp_path):
    if name not in runtimes:
        pytest.skip(str(missing_for_native()))
    runtime, fingerprint = runtimes[name]
    state, logits = runtime.new_state(2), None
    if cut:
        logits = runtime.next_logits(TEXT[:, :cut], None, state)
    written = save_state(
        tmp_path / "state", state, fingerprint, tokens=TEXT[:, :cut].tolist() if cut else [], logits=logits
    )
    assert written == (tmp_path / "state").stat().st_size
    loaded = load_state(tmp_path / "state", runtime, fingerprint)
    assert loaded.state.num_tokens.tolist() == [cut, cut]
    assert loaded.tokens == (tuple(map(tuple, TEXT[:, :cut].tolist())) if cut else ())
    if logits is not None:
        assert torch.equal(loaded.logits, logits)
    for at in range(cut, cut + 3):
        token = TEXT[:, at : at + 1]
        assert torch.equal(runtime.next_logits(token, None, loaded.state), runtime.next_logits(token, None, state))


def test_rows_of_different_lengths_keep_their_padding(runtimes, tmp_path):
    for name in ("torch", "onnx"):
        runtime, fingerprint = runtimes[name]
        mask = torch.ones(2, 9, dtype=torch.bool)
        mask[0, 4:] = False
        state = runtime.new_state(2)
        runtime.next_logits(TEXT[:, :9], mask, state)
        save_state(tmp_path / name, state, fingerprint)
        loaded = load_state(tmp_path / name, runtime, fingerprint).state
        assert loaded.num_tokens.tolist() == [4, 9]
        both = [runtime.next_logits(TEXT[:, 9:10], None, each) for each in (loaded, state)]
        assert_close(both[0], both[1], tolerance_of("model").values)


OTHER_PROCESS = """
import json, sys
from pathlib import Path
import torch
from mamba_slm.generation.loading import load
from mamba_slm.generation.states.files import load_state
from mamba_slm.generation.states.fingerprint import fingerprint_of
torch.set_num_threads(1)
loaded = load(sys.argv[1])
mine = fingerprint_of(loaded.runtime, tokenizer=loaded.tokenizer, folder=loaded.folder)
saved = load_state(Path(sys.argv[2]), loaded.runtime, mine)
logits = loaded.runtime.next_logits(torch.tensor([[5]]), None, saved.state)
print(json.dumps([saved.tokens, logits.tolist()]))
"""


def test_another_process_goes_on_where_this_one_stopped(folder, tmp_path):
    loaded = load(folder)
    mine = fingerprint_of(loaded.runtime, tokenizer=loaded.tokenizer, folder=loaded.folder)
    state = loaded.runtime.new_state(1)
    loaded.runtime.next_logits(TEXT[:1, :20], None, state)
    save_state(tmp_path / "state", state, mine, tokens=TEXT[:1, :20].tolist())
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(folder), str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=True,
    )
    tokens, logits = json.loads(done.stdout)
    assert tokens == TEXT[:1, :20].tolist()
    expected = loaded.runtime.next_logits(torch.tensor([[5]]), None, state)
    assert_close(torch.tensor(logits), expected, tolerance_of("model").values)


def test_nobody_else_may_read_a_state(runtimes, tmp_path):
    runtime, fingerprint = runtimes["torch"]
    before = os.umask(0)
    try:
        save_state(tmp_path / "state", runtime.new_state(1), fingerprint)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o600


def test_every_way_to_round_weights_has_a_fingerprint_of_its_own(folder):
    names = ["float32", "bfloat16", *PLANS]
    opened = [load(folder, settings=RuntimeSettings(weights=name)).runtime for name in names]
    assert len({fingerprint_of(runtime, folder=folder).precision for runtime in opened}) == len(names)


@pytest.mark.parametrize("part", ["weights", "precision", "backend", "tokenizer"])
def test_a_state_of_another_model_precision_runtime_or_tokenizer_is_refused_by_name(part, runtimes, tmp_path):
    runtime, fingerprint = runtimes["torch"]
    other = Fingerprint(**{**vars(fingerprint), part: "another"})
    save_state(tmp_path / "state", runtime.new_state(1), other)
    with pytest.raises(CheckpointError, match=f"state of another model: {part} differ .{part} was another"):
        load_state(tmp_path / "state", runtime, fingerprint)


def test_every_way_of_running_a_model_has_a_fingerprint_of_its_own(runtimes):
    digests = {fingerprint.digest for _, fingerprint in runtimes.values()}
    assert len(digests) == len(runtimes)
    runtime, fingerprint = runtimes["torch"]
    assert fingerprint_of(TorchRuntime(varied_model())) == fingerprint
    assert fingerprint_of(TorchRuntime(varied_model(seed=5))).differences(fingerprint) == ["weights"]
    assert fingerprint_of(runtime, tokenizer=small_tokenizer()).differences(fingerprint) == ["tokenizer"]
    with pytest.raises(UsageError, match="cannot be read"):
        fingerprint_of(runtimes["onnx"][0])


def test_the_same_files_with_another_config_are_another_model(folder):
    loaded = load(folder)
    before = fingerprint_of(loaded.runtime, folder=folder)
    loaded.runtime.config = dataclasses.replace(loaded.runtime.config, rope_scaling="linear", rope_scaling_factor=2.0)
    assert fingerprint_of(loaded.runtime, folder=folder).differences(before) == ["weights"]


def test_a_file_is_hashed_again_when_it_changes(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    first = remembered_sha256(file)
    assert remembered_sha256(file) == first
    file.write_bytes(b"another")
    assert remembered_sha256(file) != first


@settings(max_examples=30)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed(runtimes, tmp_path_factory, place, bit):
    runtime, fingerprint = runtimes["torch"]
    path = tmp_path_factory.mktemp("flipped") / "state"
    state = runtime.new_state(1)
    runtime.next_logits(TEXT[:1, :5], None, state)
    save_state(path, state, fingerprint)
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)
    try:
        loaded = load_state(path, runtime, fingerprint)
    except CheckpointError:
        return
    assert checksum(read_file(path)[0]) == checksum(read_file(path)[0])  # only what no one reads, such as spaces
    assert torch.equal(loaded.state.layers[0].ssm, state.layers[0].ssm)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layers.0.ssm"), "layers.0.ssm is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "extra is missing or unknown"),
        (lambda tensors: tensors.update({"layers.0.ssm": torch.zeros(1, 2)}), "layers.0.ssm is"),
        (lambda tensors: tensors.update(positions=torch.zeros(1, 3, dtype=torch.int64)), "different numbers of slots"),
        (lambda tensors: tensors.pop("num_tokens"), "num_tokens is missing"),
    ],
)
def test_a_file_that_is_no_state_of_this_model_is_refused_with_what_is_wrong(change, message, runtimes, tmp_path):
    runtime, fingerprint = runtimes["torch"]
    path = tmp_path / "state"
    save_state(path, runtime.new_state(1), fingerprint)
    tensors, facts = read_file(path)
    change(tensors)
    save_file(tensors, path, metadata=facts | {"checksum": checksum(tensors)})
    with pytest.raises(CheckpointError, match=message):
        load_state(path, runtime, fingerprint)


def test_files_that_are_missing_cut_newer_or_something_else_are_refused(runtimes, tmp_path):
    runtime, fingerprint = runtimes["torch"]
    path = tmp_path / "state"
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(path, runtime, fingerprint)
    save_state(path, runtime.new_state(1), fingerprint)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_state(path, runtime, fingerprint)
    path.write_bytes(whole)
    tensors = load_file(path)
    save_file(tensors, path, metadata={"format_version": "2"})
    with pytest.raises(CheckpointError, match="format version 2"):
        load_state(path, runtime, fingerprint)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="not a state of mamba-slm"):
        load_state(path, runtime, fingerprint)
