"""Packed documents do not know of each other: not approximately, exactly."""

import pytest
import torch

from conformance.models import CONFIGS, KERNEL_CONFIGS, SIZES, fresh_model, sequences
from conformance.paths import native_kernels
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.ops.ssd import SSD_BACKENDS

LENGTHS = (1, 63, 1, 64, 2, 65, 70)
"""Boundaries inside chunks and at their edges; documents shorter than the convolution."""


def logits_and_embedded(model, tokens, ids, **settings):
    """Logits, and the embeddings of the tokens as a leaf of the graph."""
    kept = []

    def keep(module, args, output):
        kept.append(output.detach().requires_grad_())
        return kept[0]

    with model.embedding.register_forward_hook(keep):
        logits = model(tokens, document_ids=ids, **settings)
    return logits, kept[0]


@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16 autocast"])
@pytest.mark.parametrize("backend", sorted(set(SSD_BACKENDS) - {"reference"}))
@pytest.mark.parametrize("layout", CONFIGS)
def test_the_gradient_of_a_document_with_respect_to_another_is_exactly_zero(layout, backend, autocast, checkpointed):
    model = fresh_model(layout, scan_backend=backend)
    model.gradient_checkpointing = checkpointed
    documents = sequences(LENGTHS)
    ids = torch.cat([torch.full_like(tokens, number) for number, tokens in enumerate(documents)])[None]
    tokens = torch.cat(documents)[None]
    for number in range(len(LENGTHS)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits, embedded = logits_and_embedded(model, tokens, ids)
        own = ids[0] == number
        generator = torch.Generator().manual_seed(7)
        (logits[0, own] * torch.randn(logits[0, own].shape, generator=generator)).sum().backward()
        assert not embedded.grad[0, ~own].any(), f"largest {embedded.grad[0, ~own].abs().max():.1e}"
        assert embedded.grad[0, own].any(dim=1).all()


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16 autocast"])
@pytest.mark.parametrize("layout", KERNEL_CONFIGS)
def test_native_kernels_keep_documents_apart_exactly(layout, autocast):
    documents = sequences(LENGTHS)
    ids = torch.cat([torch.full_like(tokens, number) for number, tokens in enumerate(documents)])[None]
    with native_kernels(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits, embedded = logits_and_embedded(fresh_model(layout), torch.cat(documents)[None], ids)
        for number in range(len(LENGTHS)):
            own = ids[0] == number
            weights = torch.randn(logits[0, own].shape)
            (gradient,) = torch.autograd.grad((logits[0, own] * weights).sum(), embedded, retain_graph=True)
            assert not gradient[0, ~own].any(), f"largest {gradient[0, ~own].abs().max():.1e}"
            assert gradient[0, own].any(dim=1).all()


@pytest.mark.parametrize("layout", CONFIGS)
def test_the_gradient_with_respect_to_padding_is_exactly_zero(layout):
    model = fresh_model(layout)
    mask = torch.ones(2, 90, dtype=torch.bool)
    mask[0, :20] = False
    mask[1, 70:] = False
    tokens = torch.randint(0, SIZES["vocab_size"], (2, 90))
    logits, embedded = logits_and_embedded(model, tokens, None, padding_mask=mask)
    (logits[mask] * torch.randn(logits[mask].shape)).sum().backward()
    assert not embedded.grad[~mask].any()
    assert embedded.grad[mask].any(dim=1).all()


@pytest.mark.parametrize("layout", CONFIGS)
def test_the_gradient_with_respect_to_later_tokens_is_exactly_zero(layout):
    model = fresh_model(layout)
    logits, embedded = logits_and_embedded(model, sequences((130,))[0][None], None)
    (logits[:, :70] * torch.randn(1, 70, SIZES["vocab_size"])).sum().backward()
    assert not embedded.grad[:, 70:].any()
    assert embedded.grad[:, :70].any(dim=2).all()


@pytest.mark.parametrize("layout", CONFIGS)
def test_what_another_document_says_changes_nothing_to_the_bit(layout):
    model = fresh_model(layout)
    ids = torch.tensor([0] * 40 + [1] * 50)[None]
    one, other = torch.randint(0, SIZES["vocab_size"], (1, 90)), torch.randint(0, SIZES["vocab_size"], (1, 90))
    other[:, 40:] = one[:, 40:]
    with torch.no_grad():
        assert torch.equal(model(one, document_ids=ids)[:, 40:], model(other, document_ids=ids)[:, 40:])


def test_an_id_that_comes_again_is_a_new_document():
    model = fresh_model("classic")
    tokens = torch.randint(0, SIZES["vocab_size"], (1, 12))
    again = torch.tensor([[4, 4, 4, 9, 4, 4, 4, 4, 2, 2, 9, 9]])
    fresh = torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 4, 4]])
    with torch.no_grad():
        assert torch.equal(model(tokens, document_ids=again), model(tokens, document_ids=fresh))


def test_the_backends_under_test_are_really_used():
    for backend in SSD_BACKENDS:
        model = fresh_model("classic", scan_backend=backend)
        used = {module.scan_backend for module in model.modules() if isinstance(module, Mamba2)}
        assert used == {backend}
