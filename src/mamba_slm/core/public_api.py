"""What is public and stable in Python: every name, by what it is for, with its module. Data, nothing loaded.

Everything else is internal: it may change or go in any version. `docs/api.md` has the rules, `docs/deprecation.md` says
how a name leaves this list, and `tests/promises/public_api.json` has the signatures, which change only on purpose.
"""

from __future__ import annotations

import importlib
from typing import Any

GROUPS: dict[str, dict[str, str]] = {
    "model": {
        "ModelConfig": "mamba_slm.model.config",
        "preset": "mamba_slm.model.presets",
        "expand_pattern": "mamba_slm.model.pattern",
        "count_parameters": "mamba_slm.model.count",
        "forward_flops_per_token": "mamba_slm.model.count",
        "state_bytes": "mamba_slm.model.count",
        "portability_issues": "mamba_slm.model.portability",
        "LanguageModel": "mamba_slm.model.stack",
        "build_model": "mamba_slm.model.init",
        "load_model": "mamba_slm.model.checkpoint",
        "save_model": "mamba_slm.model.checkpoint",
        "InferenceState": "mamba_slm.model.state",
        "remember": "mamba_slm.model.rollback",
        "roll_back": "mamba_slm.model.rollback",
    },
    "text and data": {
        "Tokenizer": "mamba_slm.text.tokenizer",
        "train_tokenizer": "mamba_slm.text.train_tokenizer",
        "Document": "mamba_slm.data.document",
        "ReadOptions": "mamba_slm.data.reading.options",
        "read_documents": "mamba_slm.data.readers",
        "CurateConfig": "mamba_slm.data.curation.config",
        "curate": "mamba_slm.data.curation.curate",
        "TokenizePlan": "mamba_slm.data.tokenization.tokenize",
        "tokenize": "mamba_slm.data.tokenization.tokenize",
        "TokenShards": "mamba_slm.data.shards",
    },
    "train": {
        "TrainConfig": "mamba_slm.training.config",
        "train": "mamba_slm.training.run",
        "TrainResult": "mamba_slm.training.reports",
        "estimate_training": "mamba_slm.training.estimate",
        "FinetuneConfig": "mamba_slm.finetuning.config",
        "finetune": "mamba_slm.finetuning.run",
        "AlignConfig": "mamba_slm.finetuning.alignment.config",
        "align": "mamba_slm.finetuning.alignment.run",
        "find_run": "mamba_slm.runs.layout",
        "list_runs": "mamba_slm.runs.layout",
        "read_metrics": "mamba_slm.runs.metrics",
    },
    "generate": {
        "load": "mamba_slm.generation.loading",
        "LoadedModel": "mamba_slm.generation.loading",
        "RuntimeSettings": "mamba_slm.generation.runtime",
        "Sampler": "mamba_slm.generation.sampling",
        "generate": "mamba_slm.generation.generate",
        "stream_tokens": "mamba_slm.generation.generate",
        "generate_text": "mamba_slm.generation.text",
        "stream_text": "mamba_slm.generation.text",
        "BeamSearch": "mamba_slm.generation.strategies.beam",
        "ContrastiveSearch": "mamba_slm.generation.strategies.contrastive",
        "BestOf": "mamba_slm.generation.strategies.best_of",
        "Speculative": "mamba_slm.generation.speculative.decode",
        "PromptLookup": "mamba_slm.generation.speculative.proposals",
        "save_state": "mamba_slm.generation.states.files",
        "load_state": "mamba_slm.generation.states.files",
        "fingerprint_of": "mamba_slm.generation.states.fingerprint",
    },
    "serve client": {
        "ServerChat": "mamba_slm.generation.conversation.server",
    },
    "evaluate": {
        "BenchmarkSettings": "mamba_slm.evaluation.harness.run",
        "run_benchmarks": "mamba_slm.evaluation.harness.run",
        "Evaluation": "mamba_slm.evaluation.results",
        "read_evaluation": "mamba_slm.evaluation.results",
        "measure_perplexity": "mamba_slm.evaluation.perplexity",
        "measure_bits_per_byte": "mamba_slm.evaluation.bits_per_byte",
    },
    "quantize and export": {
        "QuantizeConfig": "mamba_slm.quantization.config",
        "quantize_folder": "mamba_slm.quantization.folder",
        "export_hf": "mamba_slm.export.hf.export",
        "export_gguf": "mamba_slm.export.gguf.export",
        "export_onnx": "mamba_slm.export.onnx.export",
        "import_hf": "mamba_slm.export.hf.importing",
        "verify": "mamba_slm.export.verify",
    },
    "plugins": {
        "SublayerPlugin": "mamba_slm.model.sublayer_plugin",
        "StateTensor": "mamba_slm.model.sublayer_plugin",
        "PluginMixer": "mamba_slm.model.plugin_mixer",
        "PluginState": "mamba_slm.model.state",
        "CallContext": "mamba_slm.model.context",
        "Projection": "mamba_slm.model.projection",
        "product_dtype": "mamba_slm.model.projection",
        "causal_conv_silu": "mamba_slm.ops.conv",
        "examine_sublayer": "mamba_slm.model.conformance",
        "require_conforming": "mamba_slm.model.conformance",
        "TaskPlugin": "mamba_slm.tasks.plugin",
        "SourceFile": "mamba_slm.data.reading.source_file",
        "History": "mamba_slm.generation.strategies.history",
        "ExporterPlugin": "mamba_slm.export.plugin",
        "export_with_plugin": "mamba_slm.export.plugin",
        "PluginError": "mamba_slm.core.plugins",
    },
    "errors": {
        "MambaSlmError": "mamba_slm.core.errors",
        "UsageError": "mamba_slm.core.errors",
        "ConfigError": "mamba_slm.core.errors",
        "SetupError": "mamba_slm.core.errors",
        "MissingDependencyError": "mamba_slm.core.errors",
        "OutOfMemoryError": "mamba_slm.core.errors",
        "DataError": "mamba_slm.core.errors",
        "CheckFailedError": "mamba_slm.core.errors",
        "CheckpointError": "mamba_slm.core.errors",
        "RunLockedError": "mamba_slm.core.errors",
        "TrainingDivergedError": "mamba_slm.core.errors",
        "InterruptedRunError": "mamba_slm.core.errors",
    },
}
"""Task -> name -> module."""

HOMES = {name: module for names in GROUPS.values() for name, module in names.items()}
"""Name -> module, of all groups. A name stands in one group only."""


def load(name: str) -> Any:
    """Import a public name.

    >>> load("preset")("nano").pattern
    'M-*-M-'
    """
    return getattr(importlib.import_module(HOMES[name]), name)
