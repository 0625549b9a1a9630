"""From raw text to a served hybrid Mamba-Transformer language model."""

from mamba_slm.core.after_import import after_import

__version__ = "0.1.0"
__all__ = ["__version__"]


def register_config() -> None:
    """Let transformers' AutoConfig know our `model_type`; the config brings the models along."""
    from transformers import AutoConfig

    from mamba_slm.model.hf_config import MODEL_TYPE, HybridSlmConfig

    AutoConfig.register(MODEL_TYPE, HybridSlmConfig, exist_ok=True)


after_import("transformers.models.auto.configuration_auto", register_config)
