"""Every recipe, from its first command to its last: on `nano` with few steps, and as a plan with its real sizes."""

import json
import re
import subprocess

import pytest

from evaluation.harness.benchmark_files import write_questions
from mamba_slm.model.checkpoint import load_config
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from ports import free_port
from promises.documents import our_commands, parse
from recipes.conftest import RECIPES, write_texts

pytestmark = pytest.mark.slow
FEW = {"SIZE": "nano", "STEPS": 4, "VOCABULARY": 512}


def commands_of(shown: str) -> list[list[str]]:
    """Every command that a recipe showed."""
    return [words for line in shown.splitlines() if line.startswith("+ ") for words in our_commands(line[2:])]


def plan_of(shell, recipe, **settings):
    """What a dry run with the real sizes says; all of its commands parse, and nothing is written."""
    before = sorted(shell.folder.iterdir())
    done = shell.run(recipe, "--dry-run", **settings)
    assert sorted(shell.folder.iterdir()) == before
    for words in commands_of(done.stderr):
        parse(words)
    return done.stdout, done.stderr


def figures(text: str) -> dict[str, str]:
    """The first figure of each line of an estimate."""
    return dict(reversed(re.findall(r"^(memory|time|cost|tokens)  +(.+)$", text, flags=re.MULTILINE)))


def seconds(time: str) -> float:
    """Of `1 d 05 h` and the like."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(
        float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) ([dhms])\b", time.split(" on ")[0])
    )


def promised(recipe: str) -> list[str]:
    """Hardware, memory, time and cost of a recipe in the table of recipes/README.md."""
    (row,) = re.findall(rf"^\| \[`{re.escape(recipe)}`\].*$", (RECIPES / "README.md").read_text(), flags=re.MULTILINE)
    return [cell.strip() for cell in row.split("|")[2:6]]


def as_promised(recipe: str, text: str) -> bool:
    """Whether the first estimate in a text says what the table says."""
    found, (_, memory, time, cost) = figures(text), promised(recipe)
    shown = memory.removesuffix(" each")
    return shown in found["memory"] and found["time"].startswith(time.partition(" for ")[0]) and found["cost"] == cost


def steps_of(run) -> int:
    """Optimiser steps that a run took."""
    return len({row["step"] for row in read_metrics(RunDirectory(run).metrics_file, kind="train")})


@pytest.fixture(scope="module")
def questions(shell):
    return write_questions(shell.folder / "questions")


@pytest.fixture(scope="module")
def laptop(shell, pages):
    """The laptop's journey, and what the script printed."""
    write_texts(shell.folder / "pages", pages[0::2])
    done = shell.run("laptop.sh", TEXT="pages", KIND="docs", STEPS=4, VOCABULARY=512, PORT=free_port())
    return shell.folder / "laptop", done


def test_the_laptop_s_journey_ends_with_a_model_that_answers_over_http(laptop):
    folder, done = laptop
    kept = json.loads((folder / "clean" / "funnel.json").read_text())
    assert kept and (folder / "clean" / "part-00000.jsonl.zst").is_file()
    assert json.loads((folder / "tokens" / "train" / "shards.json").read_text())["vocab_size"] == 512
    assert steps_of(folder / "base") == 4 and steps_of(folder / "answers") == 4
    assert load_config(folder / "base" / "model").pattern == "M-*-M-"
    (measured,) = json.loads((folder / "base-scores" / "perplexity.json").read_text())["texts"]
    assert 0 < measured["bits_per_byte"] < 8
    assert load_config(folder / "int8").pattern == "M-*-M-" and (folder / "int8" / "report.html").is_file()
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["choices"][0]["message"]["role"] == "assistant" and answer["usage"]["completion_tokens"] > 0
    assert (folder / "base.html").read_text().startswith("<!") and (folder / "answers.html").is_file()
    assert done.stderr.rstrip().endswith("talk to it: mamba-slm chat laptop/int8")


def test_a_recipe_that_is_done_does_nothing_and_one_that_was_interrupted_goes_on(shell, laptop):
    folder, first = laptop
    again = shell.run("laptop.sh", TEXT="pages", KIND="docs", STEPS=4, VOCABULARY=512)
    assert (
        again.stderr.count("already there: ") == len(commands_of(first.stderr)) - 1 + 1
    )  # the plan; the server's step
    model = (folder / "answers" / "model" / "model.safetensors").read_bytes()
    (folder / "int8").rename(shell.folder / "away")
    shell.run("laptop.sh", TEXT="pages", KIND="docs", STEPS=4, VOCABULARY=512)
    assert (folder / "int8" / "report.json").is_file()
    assert (folder / "answers" / "model" / "model.safetensors").read_bytes() == model


def test_a_run_that_was_interrupted_is_resumed_and_not_begun_again(shell, laptop):
    few = "--context-tokens 64 --batch-tokens 64 --max-steps 400 --save-every-steps 10 --sample-every-steps 0"
    words = f"mamba-slm train nano --data laptop/tokens --out cut --validation-share 0 {few}"
    cut = shell.folder / "cut.sh"
    cut.write_text(f'set -euo pipefail\n. {RECIPES}/steps.sh\nrun_step "train" cut cut/model {words}\n')
    interrupting = "until ls cut/checkpoints/step-* > /dev/null 2>&1; do sleep 0.1; done; mamba-slm runs stop cut"
    with subprocess.Popen(["bash", "-c", interrupting], cwd=shell.folder, env=shell.environment) as stopping:
        shell.run(str(cut), expect=130)
        assert stopping.wait() == 0
    done = shell.run(str(cut))
    assert commands_of(done.stderr) == [["runs", "resume", "cut"]] and (shell.folder / "cut" / "model").is_dir()
    assert [row["step"] for row in read_metrics(RunDirectory(shell.folder / "cut").metrics_file, kind="train")][
        -1
    ] == 400


def test_125m_on_one_gpu_works_on_nano(shell, sources, questions):
    few = "tea docs 0.6 1M\nharbours docs 0.3 1M\nclocks docs 0.1 1M"
    shell.run(
        "125m-one-gpu.sh", **FEW, **sources, SOURCES=few, TOKENS="1M", BENCHMARKS="piqa", QUESTIONS=questions, LIMIT=2
    )
    folder = shell.folder / "125m"
    mixture = (folder / "mixture.yaml").read_text()
    assert "harbours" in mixture and "0.3" in mixture
    assert steps_of(folder / "base") == 4
    texts = json.loads((folder / "perplexity" / "perplexity.json").read_text())["texts"]
    assert len(texts) == 3
    assert "piqa" in (folder / "scores" / "results.json").read_text()
    assert json.loads((folder / "hf" / "config.json").read_text())["model_type"] == "granitemoehybrid"
    assert (folder / "model-q8.gguf").read_bytes()[:4] == b"GGUF"


def test_125m_on_one_gpu_is_planned_to_fit_it_and_a_day(shell):
    out, shown = plan_of(shell, "125m-one-gpu.sh", OUT="planned")
    found = figures(out)
    assert "fits in 24.0 GiB" in found["memory"] and seconds(found["time"]) < 86400
    assert as_promised("125m-one-gpu.sh", out)
    assert out.count("licence: ") == 3 and "ODC-BY" in out
    assert "9,537 steps" in out.partition("run         planned/base")[2]  # the run's own plan says the same
    assert len(commands_of(shown)) == 17


def test_1_3b_on_eight_gpus_works_on_nano_with_two_processes(shell, sources, questions):
    few = "tea docs 0.6 0.2 1M\nharbours docs 0.4 0.8 1M"
    shell.run(
        "1.3b-8-gpus.sh", **FEW, **sources, SOURCES=few, TOKENS="1M", ANNEAL_FROM=4096, CONTEXT=512, GPUS=2, WORKERS=1,
        BENCHMARKS="piqa", QUESTIONS=questions, LIMIT=2,
    )  # fmt: skip
    folder = shell.folder / "1.3b"
    assert json.loads((folder / "doctor.json").read_text())["ok"]
    assert "from_tokens: 4096" in (folder / "mixture.yaml").read_text()
    assert steps_of(folder / "base") == 4
    events = (folder / "base" / "events.jsonl").read_text()
    assert "mixture" in events, events
    assert "piqa" in (folder / "scores" / "results.json").read_text()
    assert (folder / "model-q8.gguf").read_bytes()[:4] == b"GGUF"


def test_1_3b_on_eight_gpus_is_planned_to_fit_them(shell):
    out, _ = plan_of(shell, "1.3b-8-gpus.sh", OUT="planned")
    found = figures(out)
    assert "fits in 80.0 GiB" in found["memory"] and "fsdp over 8 processes" in out
    assert 1 < seconds(found["time"]) / 86400 < 1.5
    assert as_promised("1.3b-8-gpus.sh", out)


def test_1_3b_as_a_job_of_slurm_shows_its_script(shell):
    out, _ = plan_of(shell, "1.3b-8-gpus.sh", OUT="planned", LAUNCHER="slurm", ENGINE="slurm")
    assert "#SBATCH --nodes=1" in out and re.search(r"#SBATCH --gpus-per-node=8|#SBATCH --gres=gpu:8", out)


def test_a_llama_is_converted_measured_beside_itself_and_exported(shell, laptop, sources, questions):
    write_llama(shell.folder / "llama", shell.folder / "laptop" / "tokenizer")
    shell.run(
        "convert-llama-3.2-1b.sh", **sources, LLAMA="llama", STEPS=4, CONTEXT=128, BATCH=512, SOURCE="tea",
        SOURCE_TOKENS="1M", BENCHMARKS="piqa", QUESTIONS=questions, LIMIT=2,
    )  # fmt: skip
    folder = shell.folder / "llama-hybrid"
    hybrid = load_config(folder / "hybrid" / "model")
    assert hybrid.pattern.count("M") == 3 and hybrid.rope_scaling == "none" and hybrid.max_context_tokens == 256
    assert load_config(folder / "llama").rope_scaling == "llama3"
    assert steps_of(folder / "hybrid") == 4
    for model in ("llama", "hybrid"):
        assert json.loads((folder / f"{model}-perplexity" / "perplexity.json").read_text())["texts"]
    assert "piqa" in (folder / "comparison.html").read_text()
    assert (folder / "hybrid-q8.gguf").read_bytes()[:4] == b"GGUF" and (folder / "hf" / "config.json").is_file()


def write_llama(folder, tokenizer):
    """A Llama as transformers saves it, with random weights and the stretched positions of Llama 3."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 256,
        },
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    shutil.copy(tokenizer / "tokenizer.json", folder)


def test_llama_3_2_1b_is_planned_from_its_sizes_alone(shell):
    out, _ = plan_of(shell, "convert-llama-3.2-1b.sh", OUT="planned", LLAMA="nowhere")
    found = figures(out)
    assert "fits in 80.0 GiB" in found["memory"] and seconds(found["time"]) < 86400
    assert "6 of 16 layers keep attention" in out
    assert as_promised("convert-llama-3.2-1b.sh", out)


def test_a_model_learns_a_field_and_is_measured_before_and_after(shell, laptop, pages):
    write_texts(shell.folder / "field", pages[1::4])
    write_texts(shell.folder / "field-held-out", pages[3::8])
    shell.run(
        "domain-lora.sh", MODEL="laptop/base", TEXTS="field", HELD_OUT="field-held-out", STEPS=2, RANK=4, CONTEXT=256,
        QUESTIONS=RECIPES / "laptop" / "questions.jsonl", GENERAL="laptop/tokens/validation",
    )  # fmt: skip
    folder = shell.folder / "domain-model"
    for when in ("before", "after"):
        assert len(json.loads((folder / when / "perplexity.json").read_text())["texts"]) == 2
    assert load_config(folder / "model").pattern == "M-*-M-"
    assert (folder / "model-q8.gguf").read_bytes()[:4] == b"GGUF"


def test_a_field_is_planned_to_be_learnt_on_a_consumer_gpu(shell):
    out, _ = plan_of(shell, "domain-lora.sh", OUT="planned")
    found = figures(out)
    assert "fits in 24.0 GiB" in found["memory"] and seconds(found["time"]) < 6 * 3600
    assert as_promised("domain-lora.sh", out)


def test_an_argument_that_no_recipe_has_is_refused_with_what_there_is(shell):
    done = shell.run("laptop.sh", "--dry-rum", expect=2)
    assert "usage: laptop.sh [--dry-run]" in done.stderr
