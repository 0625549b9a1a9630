"""From raw text to a served hybrid Mamba-Transformer language model."""

__version__ = "0.1.0"
__all__ = ["__version__"]
