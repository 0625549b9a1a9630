"""Modules that were imported, names in Python, and files."""

from __future__ import annotations

import json

from origins.originals import REPOSITORY
from origins.row import Section, file, row, says
from origins.workshop import Workshop

FIRST = "generate runs/base def --max-new-tokens 4 --runtime torch --json"


def nano_layers(workshop: Workshop) -> str:
    """The modules of a small model."""
    from mamba_slm.model.init import build_model
    from mamba_slm.model.presets import preset

    return str(build_model(preset("nano"), seed=0))


def evaluated(workshop: Workshop) -> list[str]:
    """The suite from Python, on two tasks."""
    from mamba_slm.evaluation.harness.run import BenchmarkSettings, run_benchmarks
    from mamba_slm.generation.loading import load

    workshop.outcome("runs show runs/base")
    settings = BenchmarkSettings(benchmarks=("piqa",), data_dir="questions", limit=2)
    found = run_benchmarks(load("runs/base", runtime="torch"), settings, out=workshop.folder / "scores-python")
    return [task.task for task in found.tasks]


def published(workshop: Workshop) -> tuple[int, int]:
    """Batch and steps of `quick_test`, from Python."""
    from mamba_slm.training.published_runs import PUBLISHED_RUNS

    config = PUBLISHED_RUNS["quick_test"]().config(data=("shards",))
    return config.batch_tokens, config.max_steps or 0


def estimated(workshop: Workshop) -> str:
    """A run of the original beside its claim."""
    from mamba_slm.training.published_runs import small_scale

    return str(small_scale())


MODULES = (
    row(
        "production_config.py",
        here="`mamba-slm models list` and `mamba-slm models describe 1.3B`",
        note="`from mamba_slm.model.presets import preset`",
        run="models list --json",
        holds=lambda seen: {"1.3B", "2.7B", "6.7B", "13B"} <= {size["name"] for size in seen.json},
    ),
    row(
        "production_training.py",
        "TrainingConfig",
        here="`mamba-slm train 1.3B --data FOLDER --dry-run`",
        note="`TrainConfig` in `mamba_slm.training.config`; time: `mamba-slm models estimate small_scale`",
        run=estimated,
        holds=lambda seen: "claimed" in seen.value and "50,000 steps" in seen.value,
    ),
    row(
        "PRODUCTION_TRAINING_CONFIGS",
        here="`PUBLISHED_RUNS` in `mamba_slm.training.published_runs`",
        note="`PUBLISHED_RUNS['quick_test']().config(data=('tokens',))`",
        run=published,
        holds=lambda seen: seen.value == (4 * 2048, 1000),
    ),
    row(
        "production_model.py",
        "model.py",
        "HybridMambaTransformer",
        here="`build_model(preset('1.3B'), seed=0)` of `mamba_slm.model.init`",
        note="`LanguageModel`; a finished model is also one of transformers",
        run=nano_layers,
        holds=lambda seen: seen.value.startswith("LanguageModel"),
    ),
    row(
        "MambaBlock",
        "ProductionMambaBlock",
        here="`Mamba2Mixer` in `mamba_slm.model.mamba2`",
        note="a recurrence of Mamba-2; the letter M of a pattern",
        run=nano_layers,
        holds=lambda seen: "Mamba2" in seen.value,
    ),
    row(
        "HybridAttentionBlock",
        "ProductionTransformerBlock",
        here="`Attention` and `SwiGLU`, letters `*` and `-`",
        note="grouped queries, gated feed-forward",
        run=nano_layers,
        holds=lambda seen: "Attention" in seen.value and "SwiGLU" in seen.value,
    ),
    row(
        "RotaryEmbedding",
        "extended_context.py",
        here="`mamba-slm extend RUN --to 4x --data books/`",
        note="`--model-settings position=alibi`, `nope` or `learned` when training from the start",
        run="extend runs/base --to 2x --data text --train-tokens 512 --validation-share 0.3 --precision fp32 "
        "--out runs/long --json",
        holds=lambda seen: seen.code == 0 and file("runs/long/extend.svg", "runs/long/model/model.safetensors")(seen),
    ),
    row(
        "flash_attention.py",
        here="nothing: `scaled_dot_product_attention` of PyTorch and kernels of ours",
        note="`mamba-slm doctor` shows which are used here, tests them and times them",
        run="doctor --no-measure --json",
        holds=says("attention"),
    ),
    row(
        "advanced_sampling.py",
        here="`mamba-slm generate RUN TEXT --beams 4`, `--contrastive-k 4`, `--top-p 0.9` …",
        note="streams as it writes",
        run=FIRST,
        holds=lambda seen: len(seen.json["completions"]) == 1,
    ),
    row(
        "lora_finetuning.py",
        here="`mamba-slm finetune` and `mamba-slm adapters`",
        run="adapters list runs/lora --json",
        holds=lambda seen: seen.json[0]["rank"] == 8,
    ),
    row(
        "quantization.py",
        here="`mamba-slm quantize`",
        run="quantize runs/base --to nf4 --dry-run --json",
        holds=says("nf4, blocks of 64"),
    ),
    row(
        "EvaluationSuite",
        "run_full_evaluation",
        here="`run_benchmarks` in `mamba_slm.evaluation.harness.run`",
        run=evaluated,
        holds=lambda seen: seen.value == ["piqa"],
    ),
    row(
        "CurationConfig",
        here="`CurateConfig` in `mamba_slm.data.curation.config`",
        note="the same settings as the YAML of `--config`, and as `mamba-slm data curate` has them",
        run="data curate text --kind code --out planned --dry-run --json",
        holds=says("drop_share"),
    ),
)

NOTEBOOKS = (
    row(
        "MAMBA_SLM.ipynb",
        "test.ipynb",
        here="`mamba-slm quickstart`",
        note="from text to a model that talks, in five minutes",
        run="quickstart --help",
        holds=says("--minutes"),
    ),
    row(
        "README.md",
        "README_ENHANCED.md",
        "QUICKSTART.md",
        "QUICK_START.md",
        here="[README](../README.md)",
        run=lambda workshop: (REPOSITORY / "README.md").read_text(encoding="utf-8"),
        holds=lambda seen: "make quickstart" in seen.value,
    ),
    row(
        "PRODUCTION_ROADMAP.md",
        "PRODUCTION_SUMMARY.md",
        here="[the roadmap](roadmap.md), recalculated",
        run=lambda workshop: (REPOSITORY / "docs/roadmap.md").read_text(encoding="utf-8"),
        holds=lambda seen: "Phase 6" in seen.value,
    ),
    row(
        "WORKFLOW_SUMMARY.md",
        here="`report.html` of every run; `mamba-slm report RUN` makes it again",
        run="report runs/base --stdout",
        holds=says("loss"),
    ),
    row(
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        here="in `RUN/model`, as transformers wants them",
        run="runs show runs/base --json",
        holds=file(
            *(
                f"runs/base/model/{name}"
                for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
            )
        ),
    ),
    row(
        "special_tokens_map.json",
        here="nothing: transformers 5 writes it no more; they are in tokenizer_config.json",
        run="runs show runs/base --json",
        holds=lambda seen: "eos_token" in json.loads((seen.here / "runs/base/model/tokenizer_config.json").read_text()),
    ),
    row(
        "training_args.bin",
        here="`RUN/config.yaml`",
        note="it was a pickle, which can run code when it is opened; no file of ours is one",
        run="runs show runs/base --json",
        holds=lambda seen: file("runs/base/config.yaml")(seen) and not list((seen.here / "runs/base").rglob("*.bin")),
    ),
)

SECTIONS = (
    Section(title="Modules and names in Python", rows=MODULES),
    Section(title="Notebooks, documents, files", rows=NOTEBOOKS),
)
