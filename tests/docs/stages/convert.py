"""docs/guides/convert.md: a small Llama of transformers, one with the positions of Llama 3.2, and texts."""

from transformers import LlamaConfig

from finetuning.conversion.llama_folders import LLAMA3, SIZES, save, varied_llama


def prepare(stage):
    save(varied_llama(), stage.path("llama"))
    save(varied_llama(LlamaConfig(**SIZES, rope_scaling=LLAMA3)), stage.path("llama-3.2-1b"))
    stage.texts("stories")
    stage.texts("my-text")
