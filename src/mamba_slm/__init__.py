"""From raw text to a served hybrid Mamba-Transformer language model.

The names below are loaded when they are used; `import mamba_slm` alone imports no other package. `docs/api.md` lists
all that is public and stable.
"""

from typing import TYPE_CHECKING, Any

from mamba_slm.core.after_import import after_import

if TYPE_CHECKING:
    from mamba_slm.core.errors import MambaSlmError
    from mamba_slm.data.readers import read_documents
    from mamba_slm.data.tokenization.tokenize import tokenize
    from mamba_slm.evaluation.harness.run import BenchmarkSettings, run_benchmarks
    from mamba_slm.export.gguf.export import export_gguf
    from mamba_slm.export.hf.export import export_hf
    from mamba_slm.export.onnx.export import export_onnx
    from mamba_slm.finetuning.config import FinetuneConfig
    from mamba_slm.finetuning.run import finetune
    from mamba_slm.generation.generate import generate
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.sampling import Sampler
    from mamba_slm.generation.text import generate_text
    from mamba_slm.model.checkpoint import load_model, save_model
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.model.init import build_model
    from mamba_slm.model.presets import preset
    from mamba_slm.model.stack import LanguageModel
    from mamba_slm.quantization.folder import quantize_folder
    from mamba_slm.text.tokenizer import Tokenizer
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.run import train

__version__ = "0.1.0"
__all__ = [
    "BenchmarkSettings",
    "FinetuneConfig",
    "LanguageModel",
    "MambaSlmError",
    "ModelConfig",
    "Sampler",
    "Tokenizer",
    "TrainConfig",
    "__version__",
    "build_model",
    "export_gguf",
    "export_hf",
    "export_onnx",
    "finetune",
    "generate",
    "generate_text",
    "load",
    "load_model",
    "preset",
    "quantize_folder",
    "read_documents",
    "run_benchmarks",
    "save_model",
    "tokenize",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load one of the names above when it is used."""
    if name not in __all__:
        raise AttributeError(f"module 'mamba_slm' has no attribute {name!r}")
    from mamba_slm.core import public_api

    return public_api.load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def register_config() -> None:
    """Let transformers' AutoConfig know our `model_type`; the config brings the models along."""
    from transformers import AutoConfig

    from mamba_slm.model.hf_config import MODEL_TYPE, HybridSlmConfig

    AutoConfig.register(MODEL_TYPE, HybridSlmConfig, exist_ok=True)


after_import("transformers.models.auto.configuration_auto", register_config)
