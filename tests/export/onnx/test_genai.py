"""ONNX Runtime GenAI really runs the exported folder."""

import json

import numpy as np
import pytest
import torch

from export.onnx.onnx_models import small_config
from mamba_slm.export.onnx.export import write_onnx_folder
from mamba_slm.export.onnx.genai import genai_config
from mamba_slm.export.source import Source
from small_models import small_tokenizer, varied_model

genai = pytest.importorskip("onnxruntime_genai")
PROMPT, OTHER = [5, 9, 100, 7, 33, 200], [50, 60, 70, 80, 90, 101]
STEPS = 30


@pytest.fixture(scope="module")
def model():
    return varied_model(max_context_tokens=128).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("genai")
    write_onnx_folder(Source(folder, model, small_tokenizer()), folder)
    return folder


def greedy(model, prompt, steps=STEPS):
    """The model's own most likely tokens; none ends the text, or the comparison would stop there."""
    state, tokens, found = model.new_state(1), torch.tensor([prompt]), []
    for _ in range(steps):
        with torch.inference_mode():
            found.append(int(model(tokens, state=state, last_only=True)[0, -1].argmax()))
        tokens = torch.tensor([found[-1:]])
    assert small_tokenizer().eos_id not in found
    return found


def generated(folder, tokens, *, pieces=None, steps=STEPS):
    """What the library adds to the rows of `tokens`."""
    loaded = genai.Model(str(folder))
    settings = genai.GeneratorParams(loaded)
    width = tokens.shape[1]
    settings.set_search_options(max_length=width + steps, batch_size=len(tokens), do_sample=False)
    generator = genai.Generator(loaded, settings)
    for piece in pieces or [tokens]:
        generator.append_tokens(piece.astype(np.int32))
    for _ in range(steps):
        generator.generate_next_token()
    return [[int(token) for token in generator.get_sequence(row)][width:] for row in range(len(tokens))]


def test_one_row_gets_the_models_greedy_text(model, folder):
    assert generated(folder, np.array([PROMPT])) == [greedy(model, PROMPT)]


def test_a_prompt_may_come_in_pieces(model, folder):
    whole = np.array([PROMPT])
    assert generated(folder, whole, pieces=[whole[:, :2], whole[:, 2:]]) == [greedy(model, PROMPT)]


def test_a_batch_of_unequal_prompts_gets_the_models_greedy_text(model, folder):
    """GenAI pads on the right, and marks padding by the pad token."""
    short = OTHER[:4]
    rows = np.array([PROMPT, [*short, *[small_tokenizer().pad_id] * 2]])
    assert generated(folder, rows, steps=20) == [greedy(model, PROMPT, 20), greedy(model, short, 20)]


def test_its_tokenizer_gives_our_ids_and_text(folder):
    tokenizer, text = genai.Tokenizer(genai.Model(str(folder))), 'def f(x):\n    return "naïve 語 😀"'
    ids = [int(id) for id in tokenizer.encode(text)]
    assert ids == small_tokenizer().encode(text)
    assert tokenizer.decode(np.array(ids, dtype=np.int32)) == text


def test_the_config_names_what_the_model_has(folder):
    stored = json.loads((folder / "genai_config.json").read_text())["model"]
    assert stored["decoder"]["filename"] == "onnx/model.onnx"
    assert stored["eos_token_id"] == small_tokenizer().eos_id
    assert stored["context_length"] == 128
    only_mamba = genai_config(small_config("no attention"), None, "model.onnx")
    names = set(only_mamba["model"]["decoder"]["inputs"])
    assert names == {"input_ids", "attention_mask", "past_conv_names", "past_recurrent_names"}
