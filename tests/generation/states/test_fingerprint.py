"""Promises of the fingerprint of a state: whatever changes what a model computes changes it."""

from mamba_slm.generation.loading import RuntimeSettings, load
from mamba_slm.generation.states.fingerprint import fingerprint_of
from small_models import save_small_model


def test_positions_stretched_while_loading_are_another_model(tmp_path):
    folder = save_small_model(tmp_path / "small")

    def fingerprint(**settings):
        loaded = load(folder, runtime="torch", settings=RuntimeSettings(**settings))
        return fingerprint_of(loaded.runtime, tokenizer=loaded.tokenizer, folder=loaded.folder)

    plain = fingerprint()
    assert fingerprint() == plain
    assert fingerprint(context_tokens=40) == plain
    found = {fingerprint(context_tokens=96, rope_scaling=method) for method in ("ntk", "yarn", "none")}
    assert len({plain, *found}) == 4
    assert all(other.differences(plain) == ["weights"] for other in found)
