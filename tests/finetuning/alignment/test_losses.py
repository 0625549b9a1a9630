"""What TRL computes for our rows through our wrapper is what the papers write."""

import math
import warnings

import pytest
import torch

from finetuning.alignment.cases import answers, hf_tokenizer, labelled, loss_of, pad_id, pairs, trainer_of
from mamba_slm.finetuning.alignment.collate import LabelledCollator, PairCollator, labelled_rows, pair_row
from mamba_slm.finetuning.alignment.formulas import (
    dpo_loss,
    group_advantages,
    grpo_loss,
    ipo_loss,
    kto_loss,
    orpo_loss,
    reward_loss,
    simpo_loss,
)
from mamba_slm.finetuning.alignment.log_probs import answer_log_probs, pair_log_probs
from model.hf_models import wrapped
from tolerances import assert_close, tolerance_of

LOSS = tolerance_of("loss", "float32")


@pytest.fixture(autouse=True)
def warnings_of_others_are_not_ours(monkeypatch):
    """Deprecations inside these libraries are their authors' business; a warning about our model still fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        for library in ("trl", "peft", "transformers", "accelerate", "datasets", "torch"):
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        yield


@pytest.fixture(scope="module")
def trl():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mamba_slm.finetuning.alignment.trainers as trainers
    return trainers


def reference():
    return wrapped(seed=9)


def pair_rows(model=None):
    rows = [pair_row(pair) for pair in pairs()]
    if model is not None:
        found = pair_log_probs(model, pairs(), pad_id=pad_id(), rows_at_once=8)
        for row, chosen, rejected in zip(rows, found.chosen.tolist(), found.rejected.tolist(), strict=True):
            row |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    return rows


@pytest.mark.parametrize("kind", ["portable", "only mamba", "alibi"])
def test_padding_does_not_leak_into_the_log_probabilities_of_an_answer(kind):
    model = wrapped(kind)
    together = pair_log_probs(model, pairs(), pad_id=pad_id(), rows_at_once=8)
    for number, pair in enumerate(pairs()):
        for answer, found in ((pair.chosen, together.chosen), (pair.rejected, together.rejected)):
            tokens = torch.tensor([answer.tokens])
            with torch.no_grad():
                log_probs = model(tokens).logits.log_softmax(dim=-1)[0, :-1]
            expected = log_probs.gather(-1, tokens[0, 1:, None])[len(answer.prompt) - 1 :].sum()
            assert_close(found[number], expected, tolerance_of("model", "float32").values)


@pytest.mark.parametrize("loss", ["sigmoid", "robust", "ipo"])
def test_dpo_and_ipo_are_those_of_their_papers(trl, tmp_path, loss):
    from trl import DPOConfig

    model, smoothing = wrapped(), 0.1 if loss == "robust" else 0.0
    trainer = trainer_of(
        trl.PairTrainer, DPOConfig, model, pair_rows(reference()), PairCollator(pad_id()), tmp_path,
        loss_type=[loss], beta=0.3, label_smoothing=smoothing, precompute_ref_log_probs=True,
    )  # fmt: skip
    found = loss_of(trainer)
    ours, theirs = (pair_log_probs(each, pairs(), pad_id=pad_id(), rows_at_once=3) for each in (model, reference()))
    if loss == "ipo":
        expected = ipo_loss(ours, theirs, beta=0.3)
    else:
        expected = dpo_loss(ours, theirs, beta=0.3, label_smoothing=smoothing)
    assert_close(found.detach(), expected, LOSS.values)


def test_a_model_that_is_its_own_reference_begins_with_the_loss_of_a_coin(trl, tmp_path):
    from trl import DPOConfig

    trainer = trainer_of(
        trl.PairTrainer, DPOConfig, wrapped(), pair_rows(wrapped()), PairCollator(pad_id()), tmp_path,
        precompute_ref_log_probs=True,
    )  # fmt: skip
    assert loss_of(trainer).item() == pytest.approx(math.log(2), abs=1e-5)


def test_kto_is_that_of_its_paper(trl, tmp_path):
    from trl import KTOConfig

    rows = labelled_rows(labelled(), rows_at_once=4, context_tokens=96)
    model = wrapped()
    settings = {"pad_id": pad_id(), "rows_at_once": 3}
    matched = [each.answer for each in labelled()]
    tokens = [(row["other_tokens"], row["other_mask"]) for row in rows]
    assert [sum(mask) for _, mask in tokens] == [sum(rows[n - 1]["mask"]) for n in range(4)]
    mismatched = [
        type(answer)(prompt=answer.prompt, completion=matched[n - 1].completion, trained=matched[n - 1].trained)
        for n, answer in enumerate(matched)
    ]
    ours, theirs = (
        [answer_log_probs(each, answers_, **settings)[0] for answers_ in (matched, mismatched)]
        for each in (model, reference())
    )
    for row, log_prob, other in zip(rows, theirs[0].tolist(), theirs[1].tolist(), strict=True):
        row |= {"ref_logps": log_prob, "ref_KL_logps": other}
    trainer = trainer_of(
        trl.LabelTrainer, KTOConfig, model, rows, LabelledCollator(pad_id()), tmp_path,
        beta=0.3, desirable_weight=1.5, precompute_ref_log_probs=True,
    )  # fmt: skip
    expected = kto_loss(
        ours[0], theirs[0], torch.tensor([each.is_good for each in labelled()]),
        mismatched=ours[1], reference_mismatched=theirs[1], beta=0.3, good_weight=1.5,
    )  # fmt: skip
    assert_close(loss_of(trainer).detach(), expected, LOSS.values)


def their_experiment(name, tmp_path, **settings):
    """The loss of a trainer of `trl.experimental` on the same tokens."""
    import importlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"trl.experimental.{name}")
    trainer_cls, config_cls = getattr(module, f"{name.upper()}Trainer"), getattr(module, f"{name.upper()}Config")

    class Theirs(trainer_cls):
        def _send_telemetry(self):
            pass

        def tokenize_row(self, row, model=None):
            sides = {}
            for side in ("chosen", "rejected"):
                ids, mask = row[f"{side}_ids"], row[f"{side}_mask"]
                labels = [token if is_trained else -100 for token, is_trained in zip(ids, mask, strict=True)]
                sides |= {
                    f"{side}_input_ids": ids, f"{side}_attention_mask": [1] * len(ids), f"{side}_labels": labels,
                }  # fmt: skip
            return sides | {"prompt_input_ids": [4], "prompt_attention_mask": [1]}

    rows = [
        {"prompt": "p", "chosen": "c", "rejected": "r"}
        | {"chosen_ids": row["chosen"], "rejected_ids": row["rejected"]}
        | {name: row[name] for name in ("chosen_mask", "rejected_mask")}
        for row in pair_rows()
    ]
    trainer = trainer_of(Theirs, config_cls, wrapped(), rows, None, tmp_path, max_length=96, **settings)
    return loss_of(trainer)


@pytest.mark.parametrize("name", ["orpo", "simpo"])
def test_orpo_and_simpo_are_those_of_their_papers_and_of_trl(trl, tmp_path, name):
    from trl import DPOConfig

    model = wrapped()
    trainer = trainer_of(
        trl.ReferenceFreeTrainer, DPOConfig, model, pair_rows(), PairCollator(pad_id()), tmp_path,
        beta=2.0, precompute_ref_log_probs=True, further={"loss_name": name, "gamma": 0.7},
    )  # fmt: skip
    found = loss_of(trainer)
    ours = pair_log_probs(model, pairs(), pad_id=pad_id(), rows_at_once=3)
    if name == "simpo":
        expected = simpo_loss(ours, beta=2.0, gamma=0.7)
        theirs = their_experiment("cpo", tmp_path, loss_type="simpo", beta=2.0, simpo_gamma=0.7, cpo_alpha=0.0)
    else:
        whole = [
            type(pair.chosen)(prompt=(), completion=pair.chosen.tokens, trained=(True,) * len(pair.chosen.tokens))
            for pair in pairs()
        ]
        sums, counts = answer_log_probs(model, whole, pad_id=pad_id(), rows_at_once=3)
        expected = orpo_loss(ours, beta=2.0, chosen_nll=-sums.sum() / counts.sum())
        theirs = their_experiment("orpo", tmp_path, beta=2.0)
    assert_close(found.detach(), expected, LOSS.values)
    assert_close(found.detach(), theirs.detach(), LOSS.values)
    found.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_the_loss_of_a_reward_model_is_that_of_bradley_and_terry(trl, tmp_path):
    from trl import RewardConfig

    from mamba_slm.model.hf import HybridSlmForSequenceClassification

    causal = wrapped()
    torch.manual_seed(3)
    model = HybridSlmForSequenceClassification(type(causal.config)(model=causal.config.model, num_labels=1))
    model.model.load_state_dict(causal.model.state_dict())
    rows = [{"chosen_ids": row["chosen"], "rejected_ids": row["rejected"]} for row in pair_rows()]
    trainer = trainer_of(trl.ScoreTrainer, RewardConfig, model, rows, None, tmp_path, max_length=96)
    found = loss_of(trainer)
    with torch.no_grad():
        scores = [
            [model(torch.tensor([answer.tokens])).logits[0, 0] for answer in (pair.chosen, pair.rejected)]
            for pair in pairs()
        ]
    chosen, rejected = torch.tensor(scores).T
    assert_close(found.detach(), reward_loss(chosen, rejected), LOSS.values)


def test_grpo_is_that_of_its_paper_with_padding_on_both_sides(trl, tmp_path):
    from trl import GRPOConfig

    rewards = torch.tensor([1.0, 0.0, 2.0, 2.0, 0.5, 0.5, 0.5, 0.5])
    drawn = [answer for pair in answers() for answer in pair]

    def rollout(prompts, trainer):
        return {
            "prompt_ids": [list(answer.prompt) for answer in drawn],
            "completion_ids": [list(answer.completion) for answer in drawn],
            "logprobs": None,
        }

    def score(prompts, completions, completion_ids, **_):
        return rewards.tolist()

    model = wrapped()
    trainer = trainer_of(
        trl.RolloutTrainer, GRPOConfig, model, [{"prompt": str(number)} for number in range(2)], None, tmp_path,
        per_device_train_batch_size=8, num_generations=4, max_completion_length=16, beta=0.0,
        further={"reward_funcs": [score], "rollout_func": rollout},
    )  # fmt: skip
    model.train()
    trainer.current_gradient_accumulation_steps = 1  # which its loop sets
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    found = trainer.compute_loss(model, batch)
    found.backward()
    gradient = model.model.embedding.weight.grad.clone()
    assert not batch["prompt_mask"].all()
    assert not batch["completion_mask"].all()

    # the same, each answer alone
    model.zero_grad()
    shuffled = {tuple(answer.completion): number for number, answer in enumerate(drawn)}
    advantages = group_advantages(rewards, 4)
    log_probs, mask = torch.zeros(8, 16), torch.zeros(8, 16)
    for row, (ids, kept) in enumerate(zip(batch["completion_ids"], batch["completion_mask"], strict=True)):
        number = shuffled[tuple(ids[kept.bool()].tolist())]
        answer = drawn[number]
        assert batch["advantages"][row].item() == pytest.approx(advantages[number].item(), abs=1e-5)
        tokens = torch.tensor([answer.tokens])
        alone = model(tokens).logits.log_softmax(dim=-1)[0, :-1].gather(-1, tokens[0, 1:, None])[:, 0]
        count = len(answer.completion)
        log_probs[row, :count], mask[row, :count] = alone[-count:], 1.0
    expected = grpo_loss(log_probs, log_probs.detach(), batch["advantages"], mask, clip=0.2)
    expected.backward()
    assert_close(found.detach(), expected.detach(), LOSS.values)
    assert_close(model.model.embedding.weight.grad, gradient, tolerance_of("model", "float32").gradients)


def test_the_clipped_objective_stops_pushing_where_the_ratio_has_left_its_bounds():
    old = torch.zeros(2, 1)
    mask = torch.ones(2, 1)
    far = torch.tensor([[0.5], [-0.5]], requires_grad=True)
    grpo_loss(far, old, torch.tensor([1.0, -1.0]), mask, clip=0.2).backward()
    assert far.grad.abs().max() == 0  # both have gone as far as they may
    near = torch.tensor([[0.1], [-0.1]], requires_grad=True)
    grpo_loss(near, old, torch.tensor([1.0, -1.0]), mask, clip=0.2).backward()
    assert near.grad[0] < 0 < near.grad[1]


def test_nobody_is_told_about_a_training(trl, tmp_path, monkeypatch):
    import trl.trainer.base_trainer as base
    from trl import DPOConfig

    def told(**_):
        raise AssertionError("telemetry was sent")

    monkeypatch.setattr(base, "send_telemetry", told)
    monkeypatch.delenv("CI", raising=False)
    assert hf_tokenizer().pad_token_id == pad_id()
    trainer_of(
        trl.PairTrainer, DPOConfig, wrapped(), pair_rows(wrapped()), PairCollator(pad_id()), tmp_path,
        precompute_ref_log_probs=True,
    )  # fmt: skip
