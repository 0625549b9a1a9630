"""Promises of writing and reading: the file says what was planned, and is the model again."""

import json

import pytest
import torch

from export.gguf.small_gguf_models import LITTLE, VARIANTS, small_config, small_source
from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.export.gguf.layout import layers_of
from mamba_slm.export.gguf.read import plain, read_file, read_gguf
from mamba_slm.export.gguf.types import FILE_TYPES
from mamba_slm.export.gguf.write import plan_file, write_gguf
from mamba_slm.text.chat import CHATML_TEMPLATE
from tolerances import assert_close, tolerance_of


def written(folder, file_type="F32", *, source=None, chat_template=None):
    """The path and the plan of a file."""
    planned = plan_file(source or small_source(), file_type=file_type, name="small", chat_template=chat_template)
    path = folder / "small.gguf"
    write_gguf(planned, path)
    return path, planned


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_read_back_computes_the_same_logits(variant, tmp_path):
    source = small_source(variant)
    path, _ = written(tmp_path, source=source)
    read = read_gguf(path)
    assert read.model.config.pattern == "".join(kind + "-" for kind, _, _ in layers_of(source.config.pattern))
    tokens = torch.randint(0, source.config.vocab_size, (2, 70), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert_close(read.model(tokens), source.model(tokens), tolerance_of("model").values)


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_the_size_is_known_before_and_the_types_are_those_of_the_plan(file_type, tmp_path):
    path, planned = written(tmp_path, file_type)
    assert planned.bytes * 0.9 < path.stat().st_size <= planned.bytes
    file = read_file(path)
    assert file.types == {each.tensor.name: each.type for each in planned.tensors}
    assert {name: tuple(tensor.shape) for name, tensor in file.tensors.items()} == {
        each.tensor.name: each.tensor.shape for each in planned.tensors
    }
    assert file.keys["general.file_type"] == FILE_TYPES[file_type].file_type
    assert ("general.quantization_version" in file.keys) == (file_type not in ("F32", "F16", "BF16"))


def test_the_keys_of_the_tokenizer_are_all_there(tmp_path):
    keys = read_file(written(tmp_path)[0]).keys
    found = {name.removeprefix("tokenizer."): value for name, value in keys.items() if name.startswith("tokenizer.")}
    assert len(found.pop("ggml.tokens")) == len(found.pop("ggml.token_type")) == 320
    assert found.pop("ggml.merges")
    assert found == {
        "ggml.model": "gpt2",
        "ggml.pre": "llama-bpe",
        "ggml.bos_token_id": 0,
        "ggml.eos_token_id": 0,
        "ggml.padding_token_id": 3,
        "ggml.eot_token_id": 2,
        "ggml.add_bos_token": True,
        "ggml.add_eos_token": False,
        "ggml.add_space_prefix": False,
    }
    assert keys["general.name"] == "small"
    assert keys["general.architecture"] == "granitehybrid"


def test_a_chat_template_travels_along_without_what_llama_cpp_does_not_know(tmp_path):
    path, planned = written(tmp_path, chat_template=CHATML_TEMPLATE)
    keys = read_file(path).keys
    assert keys["tokenizer.chat_template"] == planned.chat_template
    assert "generation %}" not in keys["tokenizer.chat_template"].replace("prompt %}", "")
    assert keys["tokenizer.ggml.add_bos_token"] is False  # ChatML prompts do not begin with it


def test_rows_that_do_not_fit_are_listed_with_what_they_got(tmp_path):
    _, planned = written(tmp_path, "Q4_K", source=small_source(**LITTLE))
    assert planned.fallen_back["blk.0.ssm_in.weight"] == "Q5_0"
    assert "blk.0.ssm_conv1d.weight" not in planned.fallen_back
    assert not plan_file(small_source(), file_type="Q4_K", name="x").fallen_back


def test_the_tokenizer_of_a_file_is_the_model_s(tmp_path):
    read = read_gguf(written(tmp_path)[0])
    assert read.tokenizer is not None
    assert read.tokenizer.encode("naïve  text\n") == small_source().tokenizer.encode("naïve  text\n")
    assert (read.tokenizer.bos_id, read.tokenizer.pad_id) == (0, 3)


@pytest.mark.parametrize("length", [0, 3, 100, 5000, -200])
def test_a_damaged_file_is_named_as_such(length, tmp_path):
    path, _ = written(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="cannot be read as GGUF"):
        read_gguf(path)
    path.write_text(json.dumps({"no": "gguf"} | dict.fromkeys(map(str, range(100)))))
    with pytest.raises(DataError, match=r"small\.gguf cannot be read as GGUF"):
        read_gguf(path)
    with pytest.raises(DataError, match="cannot be read as GGUF"):
        read_gguf(tmp_path / "absent.gguf")


def test_what_our_model_does_not_compute_is_refused_with_the_file_s_name(tmp_path):
    path, _ = written(tmp_path)
    key, value = b"granitehybrid.expert_count", b"\x04\x00\x00\x00" + b"\x00\x00\x00\x00"  # uint32 0
    data = path.read_bytes()
    assert data.count(key + value) == 1
    path.write_bytes(data.replace(key + value, key + value[:4] + b"\x08\x00\x00\x00"))
    with pytest.raises(ConfigError, match=r"small\.gguf: num_local_experts is 8"):
        read_gguf(path)


def test_numbers_come_back_as_they_were_written(tmp_path):
    assert plain(0.1) == 0.1
    assert plain([1, 2]) == [1, 2]
    assert read_gguf(written(tmp_path)[0]).model.config.norm_eps == small_config().norm_eps == 1e-5
