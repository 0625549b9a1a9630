"""A prompt cache saves reading and changes nothing else: whatever was read before, whoever shares the folder."""

import os
import stat

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.generation.generate import generate
from mamba_slm.generation.onnx_runtime import open_onnx
from mamba_slm.generation.prefill import prefill
from mamba_slm.generation.runtime import RuntimeSettings, TorchRuntime
from mamba_slm.generation.states.fingerprint import fingerprint_of
from mamba_slm.generation.states.prompt_cache import PromptCache, PromptCacheSettings
from onnx_folders import save_onnx
from small_models import varied_model
from tolerances import assert_close, tolerance_of

VOCAB = 40
TEXT = torch.randint(0, VOCAB, (300,), generator=torch.Generator().manual_seed(5)).tolist()


class Counting(TorchRuntime):
    """Counts the tokens that the model itself reads."""

    read = 0

    def next_logits(self, tokens, padding_mask, state):
        self.read += tokens.numel() if padding_mask is None else int(padding_mask.sum())
        return super().next_logits(tokens, padding_mask, state)


def cached(folder, *, runtime=None, say=lambda line: None, **settings):
    """A runtime with a cache, as a new process would open it."""
    runtime = runtime or Counting(varied_model(vocab_size=VOCAB, max_context_tokens=400))
    settings = {"min_tokens": 8, "every": 0} | settings
    runtime.prompt_reader = PromptCache(
        PromptCacheSettings(folder=folder, **settings), fingerprint_of(runtime), say=say
    )
    return runtime


def cache_of(runtime):
    reader = runtime.prompt_reader
    assert isinstance(reader, PromptCache)
    return reader


def assert_reads_right(runtime, *prompts):
    """The logits are those of a model without a cache, and the state goes on as its state."""
    plain = TorchRuntime(runtime.model)
    states = runtime.new_state(len(prompts)), plain.new_state(len(prompts))
    found, expected = prefill(runtime, prompts, states[0]), prefill(plain, prompts, states[1])
    assert_close(found, expected, tolerance_of("model").values)
    assert states[0].num_tokens.tolist() == list(map(len, prompts))
    next_tokens = torch.full((len(prompts), 1), 7)
    found, expected = (plain.next_logits(next_tokens, None, state) for state in states)
    assert_close(found, expected, tolerance_of("model").values)


def test_the_same_prompt_is_read_once_and_never_again_in_any_process(tmp_path):
    for reading in range(3):
        runtime = cached(tmp_path)
        assert_reads_right(runtime, TEXT[:100])
        assert runtime.read == (0 if reading else 100)
        assert cache_of(runtime).counts.reused_tokens == (100 if reading else 0)


def test_a_prompt_that_goes_on_costs_what_it_adds(tmp_path):
    for end, read in ((100, 100), (130, 30), (131, 1), (300, 169), (130, 0)):
        runtime = cached(tmp_path)
        assert_reads_right(runtime, TEXT[:end])
        assert runtime.read == read


def test_a_shared_beginning_is_known_from_the_second_prompt_on(tmp_path):
    """The first knows nothing of others; the second keeps the state where it parts; the third needs no more."""
    for number, read in enumerate((130, 130, 30, 30)):
        runtime = cached(tmp_path)
        assert_reads_right(runtime, [*TEXT[:100], *[number] * 30])
        assert runtime.read == read


def test_states_on_the_way_serve_the_second_prompt_already(tmp_path):
    for number, read in enumerate((130, 34)):
        runtime = cached(tmp_path, every=32)
        assert_reads_right(runtime, [*TEXT[:100], *[number] * 30])
        assert runtime.read == read


def test_prompts_of_one_batch_share_their_beginning(tmp_path):
    prompts = [[*TEXT[:50], *[number] * (3 + number)] for number in range(4)]
    runtime = cached(tmp_path)
    assert_reads_right(runtime, *prompts)
    assert runtime.read == 50 + 3 + 4 + 5 + 6
    again = cached(tmp_path)
    assert_reads_right(again, *prompts)
    assert again.read == 3 + 4 + 5 + 6
    assert_reads_right(again, TEXT[:9], TEXT[20:40])  # which share nothing


def test_short_prompts_and_states_with_a_past_are_none_of_its_business(tmp_path):
    runtime = cached(tmp_path, min_tokens=20)
    assert_reads_right(runtime, TEXT[:19])
    assert not list(tmp_path.glob("*/*"))
    state = runtime.new_state(1)
    for piece in (TEXT[:30], TEXT[30:60]):
        prefill(runtime, [piece], state)
    assert [file.name.partition("-")[0] for file in tmp_path.glob("*/*")] == ["30"]
    assert state.num_tokens.tolist() == [60]


def test_generated_text_is_the_same_and_onnx_has_a_cache_too(tmp_path):
    model = varied_model(vocab_size=VOCAB, max_context_tokens=400)
    onnx = open_onnx(save_onnx(model, tmp_path / "onnx"), RuntimeSettings(threads=1)).runtime
    expected = generate(onnx, [TEXT[:60]], max_new_tokens=8).completions
    cache = PromptCache(
        PromptCacheSettings(folder=tmp_path / "cache", min_tokens=8), fingerprint_of(onnx, folder=tmp_path / "onnx")
    )
    onnx.prompt_reader = cache
    for _ in range(2):
        assert generate(onnx, [TEXT[:60]], max_new_tokens=8).completions == expected
    assert cache.counts.reused_tokens == 60


def test_the_folder_never_holds_more_than_it_may_and_loses_what_was_not_used_for_longest(tmp_path):
    runtime = cached(tmp_path)
    for number in range(3):
        assert_reads_right(runtime, [number] * 20)
    files = [cache_of(runtime)._file([number] * 20) for number in range(3)]
    for age, file in enumerate(files):  # what a clock with coarse ticks says may be the same for all
        os.utime(file, (1000 + age, 1000 + age))
    size = max(file.stat().st_size for file in files)
    small = cached(tmp_path, max_bytes=3 * size + size // 2)
    assert_reads_right(small, [0] * 20)  # used now
    assert_reads_right(small, [3] * 20)
    assert sum(file.stat().st_size for file in tmp_path.glob("*/*")) <= 3 * size + size // 2
    kept = [number for number in range(4) if cache_of(small)._file([number] * 20).exists()]
    assert kept == [0, 2, 3]


def test_a_state_that_is_larger_than_the_cache_is_not_kept(tmp_path):
    said = []
    runtime = cached(tmp_path, say=said.append, max_bytes=1000)
    assert_reads_right(runtime, TEXT[:50])
    assert not list(tmp_path.glob("*/*"))
    assert "more than the cache may" in said[0]


def test_a_damaged_file_is_read_anew_and_replaced(tmp_path):
    assert_reads_right(cached(tmp_path), TEXT[:50])
    (file,) = tmp_path.glob("*/*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    for damaged in (bytes(data), b"", b"no state"):
        file.write_bytes(damaged)
        said = []
        runtime = cached(tmp_path, say=said.append)
        assert_reads_right(runtime, TEXT[:50])
        assert runtime.read == 50 and "read again" in said[0]
    again = cached(tmp_path)
    assert_reads_right(again, TEXT[:50])
    assert again.read == 0


def test_another_model_or_precision_finds_nothing(tmp_path):
    assert_reads_right(cached(tmp_path), TEXT[:50])
    other = Counting(varied_model(vocab_size=VOCAB, max_context_tokens=400, seed=9))
    assert_reads_right(cached(tmp_path, runtime=other), TEXT[:50])
    assert other.read == 50


def test_nobody_else_can_look_into_the_folder(tmp_path):
    before = os.umask(0)
    try:
        assert_reads_right(cached(tmp_path / "cache"), TEXT[:50])
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").rglob("*") if path.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.parametrize("settings", [{"max_bytes": 0}, {"min_tokens": 0}, {"every": -1}])
def test_settings_that_make_no_sense_are_refused(settings, tmp_path):
    with pytest.raises(ConfigError, match="a prompt cache needs"):
        PromptCacheSettings(folder=tmp_path, **settings)
