"""A Llama folder becomes a model folder that every command takes."""

import json

import pytest
import torch
from transformers import LlamaConfig

from finetuning.conversion.llama_folders import LLAMA3, SIZES, save, varied_llama
from mamba_slm.cli.main import main
from mamba_slm.core.errors import UsageError
from mamba_slm.finetuning.conversion.convert import CONVERSION_FILE, convert
from mamba_slm.finetuning.conversion.shape import HybridShape
from mamba_slm.finetuning.conversion.source import load_llama
from mamba_slm.generation.text import generate_text
from mamba_slm.model.checkpoint import load_model
from mamba_slm.text.tokenizer import Tokenizer
from tolerances import TOLERANCES, assert_close

EXACT = TOLERANCES["oracle", "float32"].values


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    save(varied_llama(LlamaConfig(**SIZES, rope_parameters=LLAMA3)), folder / "llama")
    (folder / "llama" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return folder / "llama"


def test_with_no_layer_replaced_the_model_is_the_llama(llama, tmp_path):
    result = convert(llama, tmp_path / "same", shape=HybridShape(keep_attention=1))
    assert result.replaced == () and result.copied_parameters == result.parameters
    theirs = varied_llama(LlamaConfig(**SIZES, rope_parameters=LLAMA3))
    tokens = torch.randint(0, 320, (2, 60), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert_close(load_model(tmp_path / "same")(tokens), theirs(tokens).logits, EXACT)


def test_everything_but_the_replaced_mixers_is_copied_bit_for_bit(llama, tmp_path):
    result = convert(llama, tmp_path / "hybrid", shape=HybridShape(keep_attention=0.35))
    assert result.config.pattern == "M-M-*-M-" and result.replaced == (0, 1, 3)
    teacher, hybrid = load_llama(llama).state_dict(), load_model(tmp_path / "hybrid").state_dict()
    new = {name for name in hybrid if name not in teacher}
    assert all(torch.equal(hybrid[name], teacher[name]) for name in hybrid if name not in new)
    assert {name.split(".")[1] for name in new} == {"0", "2", "6"}
    assert result.copied_parameters == sum(hybrid[name].numel() for name in hybrid if name not in new)
    record = json.loads((tmp_path / "hybrid" / CONVERSION_FILE).read_text())
    assert record["replaced_layers"] == [0, 1, 3] and record["source"] == str(llama)


def test_the_hybrid_speaks_and_keeps_tokenizer_and_template(llama, tmp_path):
    convert(llama, tmp_path / "hybrid")
    tokenizer = Tokenizer.load(tmp_path / "hybrid")
    assert tokenizer.fingerprint == Tokenizer.load(llama).fingerprint
    assert (tmp_path / "hybrid" / "chat_template.jinja").read_text() == (llama / "chat_template.jinja").read_text()
    texts, _ = generate_text(load_model(tmp_path / "hybrid"), tokenizer, ["def "], max_new_tokens=5)
    assert texts[0].text


def test_what_stands_there_is_not_overwritten(llama, tmp_path):
    convert(llama, tmp_path / "hybrid")
    with pytest.raises(UsageError, match="exists already"):
        convert(llama, tmp_path / "hybrid")
    convert(llama, tmp_path / "hybrid", overwrite=True)


def test_the_command_says_what_it_made(llama, tmp_path, capsys):
    words = ["convert", str(llama), "--keep-attention", "0.5", "--placement", "even", "--state-size", "16"]
    assert main([*words, "--out", str(tmp_path / "hybrid"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["pattern"] == "M-*-M-*-"
    assert "2 of 4 layers keep attention" in said.err
    assert load_model(tmp_path / "hybrid").config.state_size == 16
