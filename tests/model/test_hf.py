"""The wrapper for transformers computes what our model computes, in every form in which others pass their batches."""

import copy
import subprocess
import sys
import textwrap

import pytest
import torch
from transformers import DataCollatorWithFlattening, DynamicCache, StaticCache

from mamba_slm.core.errors import UsageError
from mamba_slm.model.hf import HybridSlmForCausalLM, HybridSlmForSequenceClassification
from mamba_slm.model.hf_config import HybridSlmConfig
from mamba_slm.model.hf_packing import document_ids_of
from model.hf_models import CONFIGS, random_tokens, varied, wrapped
from small_models import recompute_activations
from tolerances import assert_close, tolerance_of

TOLERANCE = tolerance_of("model")
KINDS = list(CONFIGS)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def run_python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )


def test_the_wrapper_gives_our_logits_to_the_last_bit(kind):
    tokens = random_tokens(2, 19)
    with torch.no_grad():
        assert torch.equal(wrapped(kind)(tokens).logits, varied(kind)(tokens))


def test_it_shares_the_weights_of_the_model_it_wraps():
    model = varied("portable")
    hf = HybridSlmForCausalLM.from_language_model(model)
    assert hf.model.embedding.weight is model.embedding.weight
    assert hf.lm_head.weight is model.embedding.weight


@torch.no_grad()
def test_reading_into_a_cache_in_pieces_gives_the_logits_of_one_call(kind):
    model, tokens = wrapped(kind), random_tokens(2, 23)
    expected = model(tokens, use_cache=False).logits
    caches = [None, DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=40)]
    for cache in caches:
        pieces = []
        for begin, end in ((0, 9), (9, 10), (10, 11), (11, 23)):
            out = model(tokens[:, begin:end], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            pieces.append(out.logits)
        assert cache.get_seq_length() == 23
        assert_close(torch.cat(pieces, dim=1), expected, TOLERANCE.values)


@torch.no_grad()
def test_a_copied_cache_goes_its_own_way():
    model, tokens = wrapped(), random_tokens(1, 20)
    expected = model(tokens, use_cache=False).logits[:, 12:]
    cache = model(tokens[:, :12], use_cache=True).past_key_values
    other = copy.deepcopy(cache)
    model(random_tokens(1, 5, seed=9), past_key_values=other)
    assert_close(model(tokens[:, 12:], past_key_values=cache).logits, expected, TOLERANCE.values)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_padded_batch_gives_the_logits_of_single_rows_and_goes_on_from_its_cache(kind, side):
    model, rows = wrapped(kind), [random_tokens(length, seed=length) for length in (3, 11, 7)]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=3, padding_side=side)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(r) for r in rows], batch_first=True, padding_side=side)
    more = random_tokens(3, 4, seed=8)
    out = model(tokens, attention_mask=mask, use_cache=True)
    rest = model(
        more, attention_mask=torch.cat([mask, torch.ones_like(more)], 1), past_key_values=out.past_key_values
    ).logits
    for index, row in enumerate(rows):
        alone = model(torch.cat([row, more[index]])[None], use_cache=False).logits[0]
        assert_close(out.logits[index][mask[index].bool()], alone[: len(row)], TOLERANCE.values, f"row {index}")
        assert_close(rest[index], alone[len(row) :], TOLERANCE.values, f"row {index}, continued")


@torch.no_grad()
def test_left_padding_may_reach_into_later_pieces_of_a_row_that_has_not_begun():
    model, row = wrapped(), random_tokens(1, 6)
    tokens = torch.cat([torch.full((1, 6), 3), row], dim=1)
    mask = (torch.arange(12) >= 6).long()[None]
    cache = model(tokens[:, :4], attention_mask=mask[:, :4], use_cache=True).past_key_values
    logits = model(tokens[:, 4:], attention_mask=mask, past_key_values=cache).logits
    assert_close(logits[:, 2:], model(row, use_cache=False).logits, TOLERANCE.values)


@pytest.mark.parametrize(
    "forms",
    [
        {},
        {"return_seq_idx": True},
        {"return_flash_attn_kwargs": True},
        {"return_position_ids": False, "return_seq_idx": True},
    ],
    ids=["position_ids", "seq_idx", "cu_seq_lens", "seq_idx alone"],
)
@torch.no_grad()
def test_documents_flattened_by_transformers_stay_apart(kind, forms):
    model, rows = wrapped(kind), [random_tokens(length, seed=length) for length in (5, 1, 1, 12)]
    batch = DataCollatorWithFlattening(return_tensors="pt", **forms)([{"input_ids": row.tolist()} for row in rows])
    labels = batch.pop("labels")
    out = model(**batch, labels=labels)
    alone = [model(row[None]).logits[0] for row in rows]
    assert_close(out.logits[0], torch.cat(alone), TOLERANCE.values)
    assert out.past_key_values is None  # no cache of a packed row
    targets = sum(len(row) - 1 for row in rows)
    summed = [
        torch.nn.functional.cross_entropy(logits[:-1], row[1:], reduction="sum")
        for logits, row in zip(alone, rows, strict=True)
    ]
    assert_close(out.loss, torch.stack(summed).sum() / targets, TOLERANCE.values)


def test_a_change_in_any_of_the_forms_begins_a_document():
    positions = torch.tensor([[0, 1, 2, 0, 1, 5, 6]])
    ids = document_ids_of((1, 7), position_ids=positions, seq_idx=None, borders=None, padding_mask=None)
    assert ids is not None and ids.tolist() == [[0, 0, 0, 1, 1, 2, 2]]
    both = document_ids_of(
        (1, 7), position_ids=None, seq_idx=torch.tensor([[0, 0, 1, 1, 1, 1, 1]]), borders=torch.tensor([0, 4, 7]),
        padding_mask=None,
    )  # fmt: skip
    assert both is not None and both.tolist() == [[0, 0, 1, 1, 2, 2, 2]]
    masked = torch.tensor([[False, False, True, True, True, True, True]])
    assert document_ids_of(
        (1, 7), position_ids=torch.tensor([[0, 0, 0, 1, 2, 3, 4]]), seq_idx=None, borders=None, padding_mask=masked
    ) is None  # fmt: skip
    with pytest.raises(UsageError, match="one row"):
        document_ids_of((2, 7), position_ids=None, seq_idx=None, borders=torch.tensor([0, 7]), padding_mask=None)


@torch.no_grad()
def test_position_ids_are_used_as_they_are():
    model, tokens = wrapped("learned positions"), random_tokens(1, 6)
    moved = model(tokens, position_ids=torch.arange(7, 13)[None], use_cache=False).logits
    padded = torch.cat([torch.zeros(1, 7, dtype=torch.int64), tokens], dim=1)
    assert not torch.allclose(moved, model(tokens, use_cache=False).logits)
    assert model(padded).logits.shape == (1, 13, 320)
    rope = wrapped("portable")  # rotary attention sees differences of positions only
    shifted = rope(tokens, position_ids=torch.arange(7, 13)[None], use_cache=False).logits
    assert_close(shifted, rope(tokens, use_cache=False).logits, TOLERANCE.values)


@torch.no_grad()
def test_positions_that_the_cache_cannot_know_are_refused():
    model = wrapped("alibi")
    cache = model(random_tokens(1, 6), use_cache=True).past_key_values
    with pytest.raises(UsageError, match="do not go on"):
        model(random_tokens(1, 2), position_ids=torch.tensor([[9, 10]]), past_key_values=cache)


@torch.no_grad()
def test_embeddings_may_stand_in_for_tokens(kind):
    model, tokens = wrapped(kind), random_tokens(2, 9)
    embedded = model.get_input_embeddings()(tokens)
    assert torch.equal(model(inputs_embeds=embedded).logits, model(tokens).logits)


@torch.no_grad()
def test_hidden_states_are_the_residual_stream_and_the_base_model_returns_an_output_object():
    model, tokens = wrapped(), random_tokens(1, 9)
    out = model(tokens, output_hidden_states=True)
    assert len(out.hidden_states) == 1 + len("M-*-M-")
    base = model.model(tokens)
    assert torch.equal(base.last_hidden_state, out.hidden_states[-1])
    assert torch.equal(model.lm_head(base.last_hidden_state), out.logits)
    as_tuple = model(tokens, return_dict=False, use_cache=False)
    assert torch.equal(as_tuple[0], out.logits)


def test_the_loss_is_ours_with_or_without_logits():
    tokens = random_tokens(2, 17)
    labels = tokens.clone()
    labels[:, :5] = -100
    ours, hf = varied("portable"), wrapped("portable")
    expected = ours.loss(tokens[:, :-1], labels[:, 1:])
    full, lean = hf(tokens, labels=labels), hf(tokens, labels=labels, skip_logits=True)
    assert lean.logits is None
    for loss in (full.loss, lean.loss):
        assert_close(loss, expected, TOLERANCE.values)
    for way in ({}, {"skip_logits": True}):
        half = hf(tokens, labels=labels, num_items_in_batch=2 * 24, **way).loss
        assert_close(half, expected / 2, TOLERANCE.values)
    expected.backward()
    lean.loss.backward()
    found, wanted = hf.model.embedding.weight.grad, ours.embedding.weight.grad
    assert found is not None and wanted is not None
    assert_close(found, wanted, TOLERANCE.gradients)


@torch.no_grad()
def test_logits_of_the_last_positions_only():
    model, tokens = wrapped(), random_tokens(2, 9)
    full = model(tokens).logits
    assert_close(model(tokens, logits_to_keep=2).logits, full[:, -2:], TOLERANCE.values)
    assert_close(model(tokens, logits_to_keep=torch.tensor([1, 4])).logits, full[:, [1, 4]], TOLERANCE.values)


def test_gradient_checkpointing_is_switched_the_usual_way():
    model, tokens = wrapped().train(), random_tokens(2, 9)
    model(tokens, labels=tokens).loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()  # which leaves these tensors alone
    recompute_activations(model)
    assert model.model.gradient_checkpointing
    model(tokens, labels=tokens).loss.backward()
    for name, parameter in model.named_parameters():
        wanted = expected[name]
        assert parameter.grad is not None and wanted is not None and parameter.grad is not wanted, name
        assert_close(parameter.grad, wanted, TOLERANCE.gradients, name)
    recompute_activations(model, enable=False)
    assert not model.model.gradient_checkpointing


def test_what_it_cannot_do_is_said():
    model, tokens = wrapped(), random_tokens(1, 6)
    with pytest.raises(UsageError, match="attention weights"):
        model(tokens, output_attentions=True)
    with pytest.raises(UsageError, match=r"shape \(1, 1, 6, 6\)"):
        model(tokens, attention_mask=torch.ones(1, 1, 6, 6))
    with pytest.raises(UsageError, match="packed documents"):
        model(tokens, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]), use_cache=True)
    with pytest.raises(UsageError, match="not between"):
        model(tokens, attention_mask=torch.tensor([[1, 1, 0, 1, 1, 1]]))
    with pytest.raises(UsageError, match="without the model's config"):
        model(tokens, past_key_values=DynamicCache())
    with pytest.raises(UsageError, match="2 layers"):
        model(tokens, past_key_values=DynamicCache(config=wrapped("only mamba").config))
    with pytest.raises(UsageError, match="static cache of 5"):
        model(tokens, past_key_values=StaticCache(config=model.config, max_cache_len=5))
    with pytest.raises(UsageError, match="either"):
        model()
    with pytest.raises(UsageError, match="skip_logits"):
        model(tokens, skip_logits=True)


def test_a_config_says_what_transformers_tools_ask_for():
    config = wrapped("classic, untied, nope").config
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (320, 32, 4)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (2, 1, 16)
    assert (config.intermediate_size, config.max_position_embeddings, config.rms_norm_eps) == (48, 96, 1e-5)
    assert config.layer_types == ["linear_attention", "linear_attention", "full_attention", "linear_attention"]
    assert not config.tie_word_embeddings
    assert config.architecture == CONFIGS["classic, untied, nope"]
    assert HybridSlmConfig().to_diff_dict()["model_type"] == "mamba_slm"
    config.tie_word_embeddings = True
    assert config.architecture.tie_embeddings


def test_a_classifier_reads_the_last_token():
    config = HybridSlmConfig.from_architecture(CONFIGS["portable"], pad_token_id=3, num_labels=1)
    model = HybridSlmForSequenceClassification(config).eval()
    row = random_tokens(1, 6)
    padded = torch.cat([row, torch.full((1, 3), 3)], dim=1)
    with torch.no_grad():
        score = model(row).logits
        assert score.shape == (1, 1)
        both = model(padded, attention_mask=(padded != 3).long()).logits
    assert_close(both, score, TOLERANCE.values)


def test_importing_the_package_does_not_import_transformers_or_torch():
    code = "import sys, mamba_slm; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert run_python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("order", ["import mamba_slm, transformers", "import transformers, mamba_slm"])
def test_the_auto_classes_know_us_whatever_is_imported_first(order):
    found = run_python(f"""
        {order}
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
        config = AutoConfig.for_model("mamba_slm")
        print(type(config).__name__, type(AutoModel.from_config(config)).__name__,
              type(AutoModelForCausalLM.from_config(config)).__name__)
    """)
    assert found.stdout.split() == ["HybridSlmConfig", "HybridSlmModel", "HybridSlmForCausalLM"], found.stderr
