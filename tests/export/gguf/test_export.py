"""Promises of the export as a whole: nothing stays that is not the model, and what is wrong is named."""

import json
import shutil

import pytest
import torch

from export.gguf.small_gguf_models import LITTLE, save_variant, small_source
from mamba_slm.core import output
from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError, DiskFullError, UsageError
from mamba_slm.export.gguf import export, keys, layout, stored, write
from mamba_slm.export.gguf.export import Check, export_gguf
from mamba_slm.export.gguf.types import FILE_TYPES
from mamba_slm.export.probes import TEXT
from mamba_slm.export.source import open_source
from mamba_slm.export.trace import open_runner
from mamba_slm.text.chat import CHATML_TEMPLATE


def exported(folder, *, source=None, file_type="F32", **settings):
    """An export without llama.cpp, which the slow tests run."""
    return export_gguf(
        source or small_source(**LITTLE), folder / "small.gguf", file_type=file_type, in_llama_cpp=False, **settings
    )


def test_a_float32_file_is_the_model_again(tmp_path):
    found = exported(tmp_path)
    assert found.file.stat().st_size == found.bytes
    assert found.read_back.probes.max_logit_error <= 1e-5
    assert found.read_back.probes.argmax_agreement == 1
    assert found.read_back.probes.num_sequences == 3  # two of random tokens, one of text
    assert found.llama_cpp is None
    assert found.pre_tokenizer == "llama-bpe"
    assert found.warnings == ()
    assert found.modelfile.read_text().startswith("FROM ./small.gguf\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.Modelfile", "small.gguf"]


@pytest.mark.parametrize("file_type", [name for name in FILE_TYPES if name != "F32"])
def test_a_rounded_file_stays_within_its_limits_and_says_how_far_it_is(file_type, tmp_path):
    found = exported(tmp_path, source=small_source(), file_type=file_type, text=TEXT * 3)
    probes = found.read_back.probes
    assert 0 < probes.mean_kl <= FILE_TYPES[file_type].largest_kl
    assert FILE_TYPES[file_type].least_agreement <= probes.argmax_agreement <= 1
    text = found.read_back.text
    assert text is not None
    assert text.perplexity_a != text.perplexity_b
    assert text.num_tokens == sum(map(len, [small_source().tokenizer.encode(TEXT * 3)]))
    assert found.tensors_by_type["F32"] > 10


def test_more_bits_are_nearer(tmp_path):
    order = ["F16", "Q8_0", "Q6_K", "Q5_0", "Q4_K", "Q4_0"]
    kl = [
        exported(tmp_path, source=small_source(), file_type=t, overwrite=True).read_back.probes.mean_kl for t in order
    ]
    assert kl == sorted(kl)


def test_the_summary_is_json(tmp_path):
    summary = exported(tmp_path, file_type="Q8_0", text=TEXT).to_json()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary | {"warnings": []}
    assert summary["file"].endswith("small.gguf")
    assert summary["read_back"]["probes"]["argmax_agreement"] > 0.9
    assert "layers" not in summary["read_back"]["text"]


def test_a_classic_model_gets_feed_forwards_of_zeros_and_a_warning_with_their_cost(tmp_path):
    found = exported(tmp_path, source=small_source("classic", **LITTLE))
    (warning,) = found.warnings
    assert "3 of 5 layers have no feed-forward" in warning
    assert "55.3k parameters that change nothing and cost 30.4 KiB and 111k operations per token" in warning
    assert found.read_back.probes.max_logit_error <= 1e-5


def test_a_finished_file_opens_as_a_model_with_its_layers_and_tokenizer(tmp_path):
    source = small_source(**LITTLE)
    runner = open_runner(exported(tmp_path, source=source).file)
    assert runner.description == "GGUF on our model, F32"
    assert runner.vocab_size == source.config.vocab_size
    assert runner.encode(TEXT) == source.tokenizer.encode(TEXT)
    trace = runner.trace([1, 2, 3], residuals=True)
    with torch.no_grad():
        torch.testing.assert_close(trace.logits, source.model(torch.tensor([[1, 2, 3]]))[0], rtol=1e-5, atol=1e-5)
    assert [name for name, _ in trace.residuals][:2] == ["embedding", "layer 0 Mamba-2"]


def test_the_chat_template_of_the_folder_travels_along(tmp_path):
    folder = save_variant(tmp_path / "model", **LITTLE)
    (folder / "chat_template.jinja").write_text(CHATML_TEMPLATE)
    found = exported(tmp_path, source=open_source(folder))
    assert "<|im_start|>{{ .Role }}" in found.modelfile.read_text()
    assert b"tokenizer.chat_template" in found.file.read_bytes()


def leaves_nothing(folder):
    """No file, no temporary folder."""
    return [path.name for path in folder.iterdir()] == []


def test_a_switch_of_rotary_positions_that_is_off_is_caught_at_the_first_attention_layer(tmp_path, monkeypatch):
    right = keys.model_keys

    def without_rope(config):
        return [keys.Key(k.name, k.kind, False) if k.name == "rope.scaling.finetuned" else k for k in right(config)]

    monkeypatch.setattr(write, "model_keys", without_rope)
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 1 attention") as caught:
        exported(tmp_path)
    assert caught.value.exit_code == 6
    assert leaves_nothing(tmp_path)


def test_queries_and_keys_in_the_wrong_order_are_caught_at_the_first_attention_layer(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "pairs_adjacent", lambda weight, heads: weight)
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 1 attention"):
        exported(tmp_path)
    assert leaves_nothing(tmp_path)


def test_decay_rates_that_stay_logarithms_are_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "decay_rates", lambda a_log: -a_log - 1e-3)
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 0 Mamba-2"):
        exported(tmp_path)


def test_a_quantized_tensor_in_the_wrong_order_is_named(tmp_path, monkeypatch):
    right = stored.encode

    def turned(values, kind):
        return right(values[::-1].copy() if values.shape == (64, 128) else values, kind)

    monkeypatch.setattr(stored, "encode", turned)
    with pytest.raises(CheckFailedError, match=r"blk\.0\.ssm_out\.weight differs from the model by .* times what Q8_0"):
        exported(tmp_path, file_type="Q8_0")
    assert leaves_nothing(tmp_path)


def test_a_type_that_changes_too_much_is_refused_with_what_was_measured(tmp_path, monkeypatch):
    limits = FILE_TYPES["Q4_0"]
    monkeypatch.setitem(FILE_TYPES, "Q4_0", type(limits)(**{**vars(limits), "largest_kl": 1e-5}))
    with pytest.raises(CheckFailedError, match=r"by more than Q4_0 explains: KL .* nats \(at most 1e-05\)") as caught:
        exported(tmp_path, file_type="Q4_0")
    assert "--type Q8_0" in caught.value.hint
    assert leaves_nothing(tmp_path)


def test_a_tokenizer_that_reads_otherwise_is_caught(tmp_path, monkeypatch):
    right = write.vocabulary_of

    def fewer_merges(tokenizer, size):
        found = right(tokenizer, size)
        return type(found)(**{**vars(found), "merges": found.merges[:-20], "pre": "dbrx"})

    monkeypatch.setattr(write, "vocabulary_of", fewer_merges)
    with pytest.raises(CheckFailedError, match="tokenizes a text otherwise"):
        exported(tmp_path)
    assert leaves_nothing(tmp_path)


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"position": "learned"}, ConfigError, "position learned cannot be written as GGUF"),
        ({"pattern": "-M*"}, ConfigError, "cannot be written as GGUF"),
        ({"vocab_size": 323}, ConfigError, "not a multiple of 8"),
    ],
)
def test_an_unexportable_model_is_refused_before_work_starts(changed, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "write_gguf", None)  # would fail otherwise
    with pytest.raises(error, match=message):
        exported(tmp_path, source=small_source(**{**LITTLE, **changed}))
    assert leaves_nothing(tmp_path)


def test_a_vocabulary_that_is_no_multiple_of_8_can_be_padded(tmp_path):
    found = exported(tmp_path, source=small_source(**{**LITTLE, "vocab_size": 321}), pad_vocabulary=True)
    assert open_runner(found.file).vocab_size == 328
    assert found.read_back.probes.max_logit_error <= 1e-5


def test_an_existing_file_or_modelfile_is_refused_and_stays(tmp_path):
    for name in ("small.gguf", "small.Modelfile"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UsageError, match=f"{name} exists already"):
            exported(tmp_path)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "small.gguf").write_text("old")
    assert exported(tmp_path, overwrite=True).bytes > 1000


def test_too_little_space_is_refused_with_both_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DiskFullError, match=r"small\.gguf needs .* KiB, but .* has 1 B free"):
        exported(tmp_path)


def test_a_name_without_the_ending_is_refused_with_the_right_one(tmp_path):
    with pytest.raises(UsageError, match=r"model\.bin does not end in \.gguf") as caught:
        export_gguf(small_source(), tmp_path / "model.bin")
    assert caught.value.hint.endswith("model.gguf")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    folder = save_variant(tmp_path / "model", **LITTLE)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        open_source(folder)


def test_without_a_text_only_the_probes_are_compared(tmp_path):
    check = exported(tmp_path).read_back
    assert isinstance(check, Check)
    assert check.text is None
