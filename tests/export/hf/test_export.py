"""An exported folder gives transformers' own class our logits; what does not is named and never kept."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GraniteMoeHybridForCausalLM

from export.their_models import edit_config, save_ours
from mamba_slm.core.errors import CheckFailedError, ConfigError, DataError, DiskFullError, UsageError
from mamba_slm.export.hf import export as module
from mamba_slm.export.hf.export import as_stored, check_tokenizer, export_hf, plan_export, sequences_for
from mamba_slm.export.hf.runner import open_hf, quiet_transformers
from mamba_slm.export.hf.write import write_folder
from mamba_slm.export.source import open_source
from mamba_slm.text.chat import CHATML_TEMPLATE
from mamba_slm.text.tokenizer import END_OF_TEXT
from small_models import save_small_model, small_tokenizer

QUERY, KEY = "model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small model and its export, with a chat template."""
    root = tmp_path_factory.mktemp("exported")
    model = save_small_model(root / "model")
    (model / "chat_template.jinja").write_text(CHATML_TEMPLATE)
    return model, export_hf(model, root / "out")


def loaded(folder, **settings):
    with quiet_transformers():
        return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **settings).eval()


def test_transformers_loads_its_own_class_and_computes_our_logits(exported):
    model, export = exported
    assert export.parity.max_logit_error <= 1e-4
    assert export.parity.argmax_agreement == 1
    assert export.rounding is None
    assert not list(export.out.glob("*.py"))
    network = loaded(export.out)
    assert type(network) is GraniteMoeHybridForCausalLM
    tokens = torch.randint(0, 320, (3, 40))
    with torch.no_grad():
        difference = network(tokens).logits - open_source(model).model(tokens)
    assert difference.abs().max() <= 1e-4


def test_the_tokenizer_and_the_chat_template_travel_along(exported):
    _, export = exported
    assert export.tokenizer_checked
    tokenizer, ours = AutoTokenizer.from_pretrained(export.out, local_files_only=True), small_tokenizer()
    text = "def naïve(語):\n    return 😀"
    assert tokenizer.encode(text, add_special_tokens=False) == ours.encode(text)
    assert tokenizer.encode(text) == [ours.bos_id, *ours.encode(text)]  # as every document begins
    assert tokenizer.decode(ours.encode(text)) == text
    assert tokenizer.eos_token == END_OF_TEXT
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_generation_stops_and_samples_as_the_folder_says(exported):
    _, export = exported
    settings = GenerationConfig.from_pretrained(export.out)
    assert settings.eos_token_id == [0, 2]
    assert settings.do_sample
    out = loaded(export.out).generate(torch.tensor([[9, 8, 7]]), max_new_tokens=5, do_sample=False)
    assert out.shape[1] <= 8


def test_the_card_says_what_was_measured_and_which_runtimes_load(exported):
    _, export = exported
    card = (export.out / "README.md").read_text()
    assert f"{export.parity.max_logit_error:.1e}" in card
    assert "`M-*-M-`" in card
    assert "41,880" in card
    for runtime in ("transformers", "vLLM", "SGLang", "MLX", "llama.cpp", "transformers.js"):
        assert f"| {runtime} | yes |" in card
    assert export.files["README.md"] == len(card.encode())


@pytest.mark.parametrize("kind", ["classic, untied, nope", "only mamba", "only attention"])
def test_every_layout_that_a_granite_can_hold_is_exported(tmp_path, kind):
    said = []
    export = export_hf(save_ours(tmp_path / "model", kind), tmp_path / "out", say=said.append)
    assert export.parity.max_logit_error <= 1e-4
    assert any("dead parameters" in line for line in said) == kind.startswith("classic")
    assert len(export.warnings) == kind.startswith("classic")
    lost = [verdict.runtime for verdict in export.verdicts if not verdict.loads]
    assert lost == {"classic, untied, nope": ["MLX"], "only mamba": ["transformers.js"], "only attention": []}[kind]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_weights_are_exact_as_stored_and_their_rounding_is_measured(tmp_path, dtype):
    export = export_hf(save_small_model(tmp_path / "model"), tmp_path / "out", dtype=dtype)
    assert export.parity.max_logit_error <= 1e-4
    assert export.rounding.max_logit_error > 1e-3
    assert 0 < export.rounding.mean_kl < 1e-2
    assert export.rounding.argmax_agreement > 0.8
    assert loaded(export.out, dtype="auto").dtype == dtype
    stored = load_file(export.out / "model.safetensors")
    assert stored["model.layers.0.mamba.A_log"].dtype == torch.float32
    assert stored[QUERY].dtype == dtype


def test_what_is_compared_with_is_the_model_as_it_is_stored(tmp_path):
    source = open_source(save_small_model(tmp_path / "model"))
    found = as_stored(source.model, torch.bfloat16)
    names = dict(source.model.named_parameters())
    assert found.sublayers[0].mixer.A_log.equal(names["sublayers.0.mixer.A_log"])
    assert found.embedding.weight.equal(names["embedding.weight"].bfloat16().float())
    assert as_stored(source.model, torch.float32) is source.model


def test_every_special_token_is_compared(tmp_path):
    source = open_source(save_small_model(tmp_path / "model"))
    assert sequences_for(source)[-1] == [0, 1, 2, 3]


def perturb_one_value(tensors):
    tensors["model.layers.2.mamba.out_proj.weight"][3, 4] += 0.5
    return "layer 2 Mamba-2"


def swap_query_and_key(tensors):
    rows = len(tensors[KEY])
    tensors[KEY], tensors[QUERY][:rows] = tensors[QUERY][:rows].clone(), tensors[KEY].clone()
    return "layer 1 attention"


def interleave_the_query_for_another_rope(tensors):
    heads, half = 2, 8
    tensors[QUERY] = tensors[QUERY].view(heads, 2, half, -1).transpose(1, 2).reshape(tensors[QUERY].shape).contiguous()
    return "layer 1 attention"


def swap_gate_and_up(tensors):
    name = "model.layers.0.shared_mlp.input_linear.weight"
    tensors[name] = tensors[name].roll(len(tensors[name]) // 2, dims=0)
    return "layer 0 feed-forward"


@pytest.mark.parametrize(
    "damage", [perturb_one_value, swap_query_and_key, interleave_the_query_for_another_rope, swap_gate_and_up]
)
@pytest.mark.parametrize("before", ["nothing", "an older export"])
def test_a_wrong_tensor_is_caught_its_layer_named_and_nothing_is_left(tmp_path, monkeypatch, damage, before):
    layers = []

    def write_and_damage(folder, model, **settings):
        write_folder(folder, model, **settings)
        tensors = load_file(folder / "model.safetensors")
        layers.append(damage(tensors))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(module, "write_folder", write_and_damage)
    model, out = save_small_model(tmp_path / "model"), tmp_path / "exports" / "out"
    out.parent.mkdir()
    if before != "nothing":
        out.mkdir()
        (out / "old").write_text("old")
    with pytest.raises(CheckFailedError) as caught:
        export_hf(model, out, overwrite=True)
    assert caught.value.exit_code == 6
    assert caught.value.message.endswith(f"first layer that drifts: {layers[0]}")
    assert [path.name for path in out.parent.rglob("*")] == ([] if before == "nothing" else ["out", "old"])


def test_a_wrong_number_in_the_config_is_caught(tmp_path, monkeypatch):
    def write_and_damage(folder, model, **settings):
        write_folder(folder, model, **settings)
        edit_config(folder, attention_multiplier=1.0)

    monkeypatch.setattr(module, "write_folder", write_and_damage)
    with pytest.raises(CheckFailedError, match="first layer that drifts: layer 1 attention"):
        export_hf(save_small_model(tmp_path / "model"), tmp_path / "out")


def test_a_tokenizer_that_differs_is_caught(exported, tmp_path):
    model, export = exported
    source, theirs = open_source(model), open_hf(export.out)
    check_tokenizer(source, theirs, CHATML_TEMPLATE)
    description = json.loads(small_tokenizer().backend.to_str())
    description["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    (tmp_path / "tokenizer_config.json").write_text((export.out / "tokenizer_config.json").read_text())
    theirs.tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    with pytest.raises(CheckFailedError, match="differs in the tokens of a text from place 0 on"):
        check_tokenizer(source, theirs, CHATML_TEMPLATE)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"position": "alibi"}, "position alibi"),
        ({"attention_window": 8}, "attention_window 8"),
        ({"pattern": "M-*--M-"}, "pattern"),
        ({"vocab_size": 317}, "vocab_size 317 is not a multiple of 8"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_a_weight_is_read(tmp_path, changes, named):
    model = save_small_model(tmp_path / "model")
    values = json.loads((model / "config.json").read_text())
    values["model"] |= changes
    (model / "config.json").write_text(json.dumps(values))
    (model / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(ConfigError, match=named):
        export_hf(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_requests_are_refused_before_the_work(tmp_path, monkeypatch):
    model, out = save_small_model(tmp_path / "model"), tmp_path / "out"
    with pytest.raises(DataError, match="does not exist"):
        export_hf(tmp_path / "absent", out)
    out.mkdir()
    with pytest.raises(DataError, match="is not a model"):
        export_hf(out, tmp_path / "other")
    with pytest.raises(UsageError, match="exists already"):
        export_hf(model, out)
    out.rmdir()
    monkeypatch.setattr("mamba_slm.core.output.SPARE_BYTES", 1 << 60)
    with pytest.raises(DiskFullError, match=r"needs .* free"):
        export_hf(model, out)
    monkeypatch.undo()
    (model / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        export_hf(model, out)
    assert not out.exists()
    assert not export_hf(model, out, needs_tokenizer=False).tokenizer_checked


def test_a_plan_reads_no_weight(tmp_path):
    model = save_ours(tmp_path / "model", "classic, untied, nope")
    (model / "model.safetensors").write_bytes(b"not read")
    plan = plan_export(model, dtype=torch.bfloat16)
    assert plan.config.pattern == "M-M-*-M-"
    assert "dead parameters" in plan.warnings[0]
    assert [verdict.runtime for verdict in plan.verdicts if not verdict.loads] == ["MLX"]


def test_a_padded_vocabulary_is_exported_when_asked_for(tmp_path):
    from mamba_slm.model.checkpoint import save_model
    from small_models import varied_model

    model = tmp_path / "model"
    model.mkdir()
    save_model(varied_model(vocab_size=321), model)
    small_tokenizer().save(model)
    export = export_hf(model, tmp_path / "out", pad_vocabulary=True)
    assert export.config.vocab_size == 328
    assert "padded to 328" in export.warnings[0]
    assert export.parity.max_logit_error <= 1e-4
