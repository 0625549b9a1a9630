"""Examples in one row know nothing of each other, through the whole model and through adapters."""

import warnings

import pytest
import torch

from mamba_slm.finetuning.collate import packed_batch, padded_batch
from mamba_slm.finetuning.examples import EncodedExample
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.hf import HybridSlmForCausalLM
from mamba_slm.model.init import build_model
from tolerances import assert_close, tolerance_of

CONFIG = ModelConfig(
    pattern="M-*-MM*-",
    vocab_size=64,
    hidden_size=32,
    num_heads=2,
    num_kv_heads=1,
    feed_forward_size=48,
    state_size=8,
    ssm_head_dim=16,
    chunk_size=8,
    max_context_tokens=96,
)
LENGTHS = (13, 2, 8, 17)  # shorter and longer than a chunk, and one that ends with it
TOLERANCE = tolerance_of("model")


def example(length, seed):
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(4, CONFIG.vocab_size, (length,), generator=draw).tolist()
    return EncodedExample(tuple(tokens), tuple(index >= length // 2 for index in range(length)), f"line {seed}")


EXAMPLES = tuple(example(length, seed) for seed, length in enumerate(LENGTHS, start=1))


def model_with(adapter):
    model = HybridSlmForCausalLM.from_language_model(build_model(CONFIG, seed=0))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "conv" not in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    if adapter:
        peft = pytest.importorskip("peft")
        settings = peft.LoraConfig(r=4, target_modules=r".*\.(in_proj|out_proj|q_proj|v_proj|gate_up_proj|down_proj)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what peft says of other models
            model = peft.get_peft_model(model, settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model.train()


def loss_of(model, batch, embedded=None):
    """Summed over the tokens that are learned."""
    batch = dict(batch)
    if embedded is not None:
        batch["inputs_embeds"] = embedded
        del batch["input_ids"]
    return model(**batch, num_items_in_batch=1).loss


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_the_loss_of_one_example_has_no_gradient_at_the_tokens_of_another(adapter):
    model = model_with(adapter)
    batch = packed_batch([EXAMPLES], pad_id=3)
    embedding = model.get_input_embeddings()
    for number in range(len(EXAMPLES)):
        embedded = embedding(batch["input_ids"]).detach().requires_grad_()
        own = batch["seq_idx"] == number
        loss_of(model, batch | {"labels": batch["labels"].where(own, -100)}, embedded).backward()
        assert embedded.grad is not None
        at_tokens = embedded.grad.abs().amax(dim=-1)
        assert not at_tokens[~own].any(), "exactly zero"
        learned = (batch["labels"] != -100) & own
        assert bool(at_tokens[own][:-1].all()), "every token before a learned one takes part"
        assert learned.any()


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_packed_examples_have_the_loss_and_the_gradients_that_they_have_alone(adapter):
    model = model_with(adapter)
    forms = {
        "packed": [packed_batch([EXAMPLES], pad_id=3)],
        "packed in two rows": [packed_batch([EXAMPLES[:3], EXAMPLES[3:]], pad_id=3)],
        "padded right": [padded_batch(EXAMPLES, pad_id=3)],
        "padded left": [padded_batch(EXAMPLES, pad_id=3, side="left")],
        "alone": [packed_batch([(one,)], pad_id=3) for one in EXAMPLES],
    }
    found = {}
    for form, batches in forms.items():
        model.zero_grad()
        loss = torch.stack([loss_of(model, batch) for batch in batches]).sum()
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found[form] = loss.detach(), gradients
    expected, gradients = found.pop("alone")
    assert gradients
    for form, (loss, others) in found.items():
        assert_close(loss, expected, TOLERANCE.values, form)
        assert others.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert_close(others[name], gradient, TOLERANCE.gradients, f"{form}: {name}")
