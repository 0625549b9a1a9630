"""Every config that a user can set, in the order of the page of settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schema:
    """One config dataclass on the page."""

    title: str
    path: str
    """Dotted path of the class."""
    about: str
    """Which command takes it, and how."""
    example: str = ""
    """A YAML file that the command reads."""
    prefix: str = ""
    """In front of its settings on the command line."""
    skip: tuple[str, ...] = ()
    """Settings that the page shows elsewhere."""


TRAIN = """
# train.yaml, for `mamba-slm train --config train.yaml`
model: tiny
data: [texts/]
text_key: text
context_tokens: 512
batch_tokens: 16Ki
max_tokens: 40M
learning_rate: 2e-3
schedule: wsd
validate_every_steps: 100
prompts: ["Once upon a time"]
log: [jsonl, tensorboard]
"""
FINETUNE = """
# finetune.yaml, for `mamba-slm finetune --config finetune.yaml`
model: runs/book
data: [faq.jsonl]
method: lora
rank: 16
epochs: 3
"""
ALIGN = """
# align.yaml, for `mamba-slm align --config align.yaml`
model: runs/faq
objective: dpo
data: [pairs.jsonl]
beta: 0.1
max_steps: 100
"""
CURATE = """
# curate.yaml, for `mamba-slm data curate INPUT --kind web --out FOLDER --config curate.yaml`
drop_share: 20%
personal: null           # leave personal data as it is
rules:
  web: {min_words: 30}
duplicates:
  threshold: 0.85
"""
MIXTURE = """
# mixture.yaml, for `mamba-slm train --data mixture.yaml`
mixture: 1
sources:
  web: {path: web-tokens, weight: 0.7}
  code: {path: code-tokens, weight: 0.3}
changes:
  - {from_tokens: 10B, weights: {web: 0.2, code: 0.8}}
"""

COMMANDS = (
    Schema(
        title="Train", path="mamba_slm.training.config.TrainConfig", example=TRAIN,
        about="`mamba-slm train`: flags, or `--config FILE`. The `config.yaml` of a run is such a file, too. "
        "`mamba-slm convert --distill` takes most of them as flags.",
    ),
    Schema(
        title="Train by Slurm", path="mamba_slm.training.launching.slurm.SlurmJobConfig", prefix="slurm.",
        about="`mamba-slm train --launcher slurm`: flags.",
    ),
    Schema(
        title="Train by Ray", path="mamba_slm.training.launching.ray_job.RayJobConfig", prefix="ray.",
        about="`mamba-slm train --launcher ray`: flags.",
    ),
    Schema(
        title="Fine-tune", path="mamba_slm.finetuning.config.FinetuneConfig", example=FINETUNE,
        about="`mamba-slm finetune`: flags, or `--config FILE`.",
    ),
    Schema(
        title="Align", path="mamba_slm.finetuning.alignment.config.AlignConfig", example=ALIGN,
        about="`mamba-slm align`: flags, or `--config FILE`.",
    ),
    Schema(
        title="Convert", path="mamba_slm.finetuning.conversion.shape.HybridShape",
        about="`mamba-slm convert`: flags. What becomes of the layers.",
    ),
    Schema(
        title="Convert: how it learns", path="mamba_slm.finetuning.conversion.distillation.Distillation",
        about="`mamba-slm convert --distill`: flags.",
    ),
    Schema(
        title="Quantize", path="mamba_slm.quantization.config.QuantizeConfig",
        about="`mamba-slm quantize`: flags.",
    ),
)  # fmt: skip
DATA = (
    Schema(
        title="Read text", path="mamba_slm.data.reading.options.ReadOptions",
        about="Every command that reads text, as flags; `train` calls `pattern` `--data-pattern`.",
    ),
    Schema(
        title="Curate", path="mamba_slm.data.curation.config.CurateConfig", example=CURATE,
        about="`mamba-slm data curate --config FILE`; `--drop-share` and `--keep-rejects` are flags, too.",
    ),
    Schema(
        title="Mix", path="mamba_slm.data.mixture_file.MixturePlan", example=MIXTURE,
        about="A file that `mamba-slm data mix` writes and `train --data` reads. Paths are relative to it.",
    ),
    Schema(
        title="Data by Slurm", path="mamba_slm.data.engine.slurm_job.SlurmConfig", prefix="slurm.",
        about="`mamba-slm data curate` and `data tokenize` with `--engine slurm`: flags.",
    ),
)  # fmt: skip
MODEL = (
    Schema(
        title="The model", path="mamba_slm.model.config.ModelConfig",
        about="`config.json` of a model folder. `train --model-settings FIELD=VALUE` changes those of a preset.",
    ),
)  # fmt: skip
SERVING = (
    Schema(
        title="The engine", path="mamba_slm.serving.engine.settings.EngineSettings", skip=("cache",),
        about="`mamba-slm serve` has a flag for most of them.",
    ),
    Schema(
        title="Prefix cache", path="mamba_slm.serving.cache.prefix_cache.CacheSettings",
        about="`mamba-slm serve --prefix-cache-bytes` sets `max_bytes`.",
    ),
    Schema(
        title="Cache on the disk", path="mamba_slm.serving.cache.disk.disk_cache.DiskCacheSettings",
        about="`mamba-slm serve --prefix-cache-dir` and its companions.",
    ),
    Schema(
        title="Who may ask", path="mamba_slm.serving.api.guard.settings.GuardSettings",
        about="`mamba-slm serve` has a flag for most of them.",
    ),
    Schema(
        title="Adapters of a server", path="mamba_slm.serving.adapters.store.AdapterSettings",
        about="`mamba-slm serve --adapter-dir` and its companions.",
    ),
    Schema(
        title="How a model is run", path="mamba_slm.generation.runtime.RuntimeSettings", skip=("say",),
        about="`generate`, `chat`, `serve` and others: `--device`, `--weights`, `--threads`, ….",
    ),
    Schema(
        title="Chat", path="mamba_slm.generation.conversation.reply_settings.ReplySettings",
        about="`mamba-slm chat`: flags, and `/set NAME VALUE` while it runs.",
    ),
    Schema(
        title="Dashboard", path="mamba_slm.dashboard.config.DashboardConfig",
        about="`mamba-slm dashboard` has a flag for most of them.",
    ),
)  # fmt: skip
PYTHON = (
    Schema(
        title="Adapters", path="mamba_slm.finetuning.adapters.settings.LoraSettings",
        about="Also part of the settings of `finetune` and `align`.",
    ),
    Schema(
        title="A base of 4 bits", path="mamba_slm.finetuning.qlora.settings.FourBitSettings",
        about="What `--method qlora` stores the base in.",
    ),
    Schema(
        title="GPTQ", path="mamba_slm.quantization.gptq.GptqConfig",
        about="Part of what `mamba-slm quantize --method gptq` does.",
    ),
    Schema(
        title="Benchmarks", path="mamba_slm.evaluation.harness.run.BenchmarkSettings",
        about="`mamba-slm eval` has a flag for each.",
    ),
    Schema(
        title="Answers to be rated", path="mamba_slm.finetuning.preferences.answering.AnswerSettings",
        about="`mamba-slm prefs rate` has a flag for most of them.",
    ),
    Schema(
        title="Load on a server", path="mamba_slm.evaluation.load.settings.LoadSettings",
        about="`mamba-slm bench serve` has a flag for most of them.",
    ),
    Schema(
        title="Prompt cache of one process", path="mamba_slm.generation.states.prompt_cache.PromptCacheSettings",
        about="For `mamba_slm.generation.states.prompt_cache`.",
    ),
)  # fmt: skip
SECTIONS = (
    ("Training and tuning", "One config is all that a command can be told.", COMMANDS),
    ("Data", "How text is read, chosen and mixed.", DATA),
    ("Model", "What is stored beside the weights.", MODEL),
    ("Serving and talking", "Commands have flags of their own for these; the classes are for Python.", SERVING),
    ("In Python", "Further configs of single parts.", PYTHON),
)
"""Title, a sentence, and the configs below it."""

ELSEWHERE = {
    "BenchSettings": "what a worker of `mamba-slm bench` is told; the command has flags of its own",
    "CodeSettings": "made by `eval` from its flags",
    "FinetuneShape": "what an estimate is computed from",
    "NoSettings": "what a plugin has that takes none",
    "SettingsFacts": "a part of a report",
    "GenerationSettings": "made by `eval` from its flags",
    "SpeedSettings": "made by `bench` from its flags",
    "QualityConfig": "the weights of a published classifier, not to be set",
    "TuningConfig": "part of FinetuneConfig and AlignConfig",
    "WatchConfig": "part of TuningConfig",
    "ContaminationConfig": "part of CurateConfig",
    "DuplicatesConfig": "part of CurateConfig",
    "LanguageConfig": "part of CurateConfig",
    "LinesConfig": "part of CurateConfig",
    "PersonalConfig": "part of CurateConfig",
    "ProfanityConfig": "part of CurateConfig",
    "RepeatsConfig": "part of RulesConfig",
    "RulesConfig": "part of CurateConfig",
    "SpamConfig": "part of CurateConfig",
}
"""Config -> why it has no section of its own."""
