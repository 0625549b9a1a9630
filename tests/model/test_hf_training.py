"""Trainer, PEFT and TRL take the model as they take any other, from a folder on disk."""

import warnings

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorWithFlattening, Trainer, TrainingArguments

from mamba_slm.model.checkpoint import load_model
from mamba_slm.model.hf import HybridSlmForCausalLM
from model.hf_models import random_tokens
from small_models import save_complete_model
from tolerances import assert_close, tolerance_of

TEXTS = [f"def f{i}(x):\n    return x + {i}\n" for i in range(12)]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}{% else %}{{ message.content }}<|im_end|>"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LORA = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": "gaussian"}


@pytest.fixture
def folder(tmp_path):
    return save_complete_model(tmp_path / "model", max_context_tokens=96)


@pytest.fixture
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture
def tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(autouse=True)
def warnings_of_others_are_not_ours(monkeypatch):
    """Deprecations inside these libraries are their authors' business; a warning about our model still fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        for library in ("trl", "peft", "transformers", "accelerate", "datasets", "torch"):
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        yield


def arguments(tmp_path, cls=TrainingArguments, **settings):
    """Three steps on the CPU, nothing written to the outside."""
    settings = {
        "output_dir": str(tmp_path / "out"), "max_steps": 3, "per_device_train_batch_size": 2, "learning_rate": 1e-2,
        "use_cpu": True, "report_to": [], "save_strategy": "no", "logging_steps": 1, "bf16": False,
        "disable_tqdm": True, "dataloader_pin_memory": False,
    } | settings  # fmt: skip
    return cls(**settings)


def losses(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_the_trainer_learns_from_flattened_batches_and_saves_what_we_load(model, tokenizer, tmp_path):
    rows = [{"input_ids": ids} for ids in tokenizer(TEXTS)["input_ids"]]
    trainer = Trainer(
        model, arguments(tmp_path, max_steps=8), train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorWithFlattening(),
    )  # fmt: skip
    trainer.train()
    found = losses(trainer)
    assert found[-1] < found[0]
    trainer.save_model(tmp_path / "trained")
    ours, tokens = load_model(tmp_path / "trained"), random_tokens(1, 9)
    with torch.no_grad():
        assert torch.equal(ours(tokens), model.eval()(tokens).logits)


def test_accumulated_steps_weigh_every_token_alike(folder, tokenizer, tmp_path):
    """One batch of four texts, and two of two, give the same gradient although the texts differ in length."""
    rows = [{"input_ids": ids} for ids in tokenizer([TEXTS[0], "x", TEXTS[1] * 2, "y = 1"])["input_ids"]]
    norms = []
    for size, steps in ((4, 1), (2, 2)):
        trainer = Trainer(
            AutoModelForCausalLM.from_pretrained(folder),
            arguments(tmp_path, max_steps=1, per_device_train_batch_size=size, gradient_accumulation_steps=steps),
            train_dataset=Dataset.from_list(rows), data_collator=DataCollatorWithFlattening(),
        )  # fmt: skip
        trainer.train()
        norms.append(next(row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_lora_reaches_every_linear_layer_and_merges_to_the_same_logits(model, folder, tmp_path):
    tokens = random_tokens(2, 12)
    with torch.no_grad():
        before = model(tokens).logits
    linears = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and name != "lm_head"]
    adapted = get_peft_model(model, LoraConfig(**LORA))
    adapted(tokens, labels=tokens).loss.backward()
    touched = {
        name.removeprefix("base_model.model.").partition(".lora_B")[0]
        for name, parameter in adapted.named_parameters()
        if "lora_B" in name and parameter.grad is not None and parameter.grad.any()
    }
    assert touched == set(linears)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
        expected = adapted(tokens).logits
        assert not torch.allclose(expected, before)
        adapted.save_pretrained(tmp_path / "adapter")
        loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
        assert torch.equal(loaded(tokens).logits, expected)
        greedy = loaded.generate(input_ids=tokens, max_new_tokens=5, do_sample=False, attention_mask=tokens * 0 + 1)
        merged = loaded.merge_and_unload()
        assert isinstance(merged, HybridSlmForCausalLM)
        assert_close(merged(tokens).logits, expected, tolerance_of("model").values)
        assert torch.equal(
            merged.generate(tokens, max_new_tokens=5, do_sample=False, attention_mask=tokens * 0 + 1), greedy
        )
        merged.save_pretrained(tmp_path / "merged")
        assert torch.equal(load_model(tmp_path / "merged")(tokens), merged(tokens).logits)


CONVERSATIONS = [
    {"messages": [{"role": "user", "content": f"add {i}"}, {"role": "assistant", "content": f"x + {i}"}]}
    for i in range(12)
]


@pytest.mark.parametrize(
    "settings",
    [{"packing": True, "max_length": 48}, {"assistant_only_loss": True}, {"padding_free": True, "max_length": None}],
    ids=["packing", "answers only", "padding free"],
)
def test_sft_of_trl_trains_an_adapter(model, tokenizer, tmp_path, settings):
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model, arguments(tmp_path, SFTConfig, **settings), train_dataset=Dataset.from_list(CONVERSATIONS),
        processing_class=tokenizer, peft_config=LoraConfig(**LORA),
    )  # fmt: skip
    trainer.train()
    assert len(losses(trainer)) == 3
    trainer.save_model(tmp_path / "adapter")
    assert AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").peft_config


def test_rows_packed_by_trl_give_the_logits_of_their_texts(model, tokenizer):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    texts = [tokenizer(text)["input_ids"] for text in (TEXTS[0], "x", TEXTS[1] * 2)]
    collator = DataCollatorForLanguageModeling(pad_token_id=3, padding_free=True, pad_to_multiple_of=64)
    with torch.no_grad():
        together = model(**collator([{"input_ids": text} for text in texts])).logits[0]
        alone = torch.cat([model(torch.tensor([text])).logits[0] for text in texts])
    assert_close(together[: len(alone)], alone, tolerance_of("model").values)


PAIRS = [{"prompt": f"add {i}", "chosen": f" x + {i}", "rejected": " no"} for i in range(12)]


def test_dpo_of_trl_loads_the_reference_model_from_the_folder(model, tokenizer, tmp_path):
    from trl import DPOConfig, DPOTrainer

    trainer = DPOTrainer(
        model, args=arguments(tmp_path, DPOConfig), train_dataset=Dataset.from_list(PAIRS), processing_class=tokenizer
    )
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(0.6931, abs=1e-3)  # the policy begins as the reference


def test_grpo_of_trl_generates_and_learns(model, tokenizer, tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model, reward_funcs=lambda completions, **_: [float(len(text)) for text in completions],
        args=arguments(
            tmp_path, GRPOConfig, max_completion_length=6, num_generations=2, beta=0.1, max_steps=2
        ),
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in PAIRS]), processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_reward_model_of_trl(folder, tokenizer, tmp_path):
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    trainer = RewardTrainer(
        model, args=arguments(tmp_path, RewardConfig, max_steps=8), train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    found = losses(trainer)
    assert found[-1] < found[0]
