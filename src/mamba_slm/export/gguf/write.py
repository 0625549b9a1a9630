"""Write a model of ours as a GGUF file, one tensor after the other."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mamba_slm.export.gguf.chat import begins_with_bos, without_generation_tags
from mamba_slm.export.gguf.keys import (
    ARCHITECTURE,
    BOOL,
    FLOAT32,
    INT32_ARRAY,
    STRING,
    UINT32,
    Key,
    model_keys,
)
from mamba_slm.export.gguf.layout import layout, require_exportable
from mamba_slm.export.gguf.stored import AS_STORED, encoded, plan_stored
from mamba_slm.export.gguf.types import FILE_TYPES, PlannedTensor, gguf_package, plan
from mamba_slm.export.gguf.vocabulary import Vocabulary, vocabulary_of
from mamba_slm.export.source import Source

QUANTIZATION_VERSION = 2
BYTES_PER_TOKEN_ENTRY = 48
"""Upper end of what a token, its type and its merge take in the file."""


@dataclass(frozen=True, kw_only=True)
class FilePlan:
    """Everything that will be in the file, before any of it is written."""

    source: Source
    name: str
    """`general.name`."""
    file_type: str
    """A key of `FILE_TYPES`, or `AS_STORED`."""
    keys: tuple[Key, ...]
    """Of the model; names without the architecture in front."""
    tensors: tuple[PlannedTensor, ...]
    vocabulary: Vocabulary
    chat_template: str | None

    @property
    def bytes(self) -> int:
        """Size of the file, rounded up."""
        tensors = sum(each.bytes + 32 for each in self.tensors)
        return tensors + BYTES_PER_TOKEN_ENTRY * (len(self.vocabulary.tokens) + len(self.vocabulary.merges)) + (1 << 16)

    @property
    def main_type(self) -> str:
        """The type of most of the values."""
        sizes = Counter[str]()
        for each in self.tensors:
            sizes[each.type] += math.prod(each.tensor.shape) if each.tensor.is_matrix and each.tensor.sources else 0
        return sizes.most_common(1)[0][0]

    @property
    def fallen_back(self) -> dict[str, str]:
        """Tensors whose rows do not fit the type they should have, and the type they got."""
        return {each.tensor.name: each.type for each in self.tensors if each.type != each.wanted}


def plan_file(source: Source, *, file_type: str, name: str, chat_template: str | None = None) -> FilePlan:
    """Decide what the file will hold. Weights are looked at only where they are numbers of few bits already.

    Raises:
        ConfigError: llama.cpp does not compute this model, or has no type for its numbers.
        DataError: llama.cpp does not tokenize like this tokenizer.
        UnknownNameError: no such file type.
    """
    assert source.tokenizer is not None, "open the source with its tokenizer"
    require_exportable(source.config)
    tensors = layout(source.config)
    if source.quantized:
        planned = plan_stored(tensors, file_type, source.quantized, source.model.state_dict())
    else:
        planned = plan(tensors, file_type)
    return FilePlan(
        source=source,
        name=name,
        file_type=file_type,
        keys=tuple(model_keys(source.config)),
        tensors=tuple(planned),
        vocabulary=vocabulary_of(source.tokenizer, source.config.vocab_size),
        chat_template=None if chat_template is None else without_generation_tags(chat_template),
    )


def write_gguf(planned: FilePlan, path: Path) -> None:
    """Write the file. Memory: the model, and one tensor in both forms.

    Raises:
        MissingDependencyError: the package gguf is not installed.
    """
    gguf = gguf_package("writing GGUF files")
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    try:
        add_keys(writer, planned)
        for each in planned.tensors:
            writer.add_tensor_info(
                each.tensor.name,
                each.tensor.shape,
                np.dtype(np.float32),  # not read: the type follows
                each.bytes,
                raw_dtype=gguf.GGMLQuantizationType[each.type],
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        tensors = planned.source.model.state_dict()
        for each in planned.tensors:
            writer.write_tensor_data(encoded(each, tensors))
    finally:
        writer.close()


def add_keys(writer: Any, planned: FilePlan) -> None:
    """All metadata: general, of the model, of the tokenizer."""
    vocabulary, tokenizer = planned.vocabulary, planned.source.tokenizer
    assert tokenizer is not None
    writer.add_name(planned.name)
    writer.add_type("model")
    file_type = planned.main_type if planned.file_type == AS_STORED else planned.file_type
    writer.add_file_type(FILE_TYPES[file_type].file_type)
    if file_type not in ("F32", "F16", "BF16"):
        writer.add_quantization_version(QUANTIZATION_VERSION)
    add = {
        UINT32: writer.add_uint32,
        FLOAT32: writer.add_float32,
        BOOL: writer.add_bool,
        STRING: writer.add_string,
        INT32_ARRAY: writer.add_array,
    }
    for key in planned.keys:
        add[key.kind](f"{ARCHITECTURE}.{key.name}", key.value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.bos_id)
    writer.add_eos_token_id(vocabulary.eos_id)
    writer.add_pad_token_id(vocabulary.pad_id)
    if vocabulary.end_of_turn_id is not None:
        writer.add_eot_token_id(vocabulary.end_of_turn_id)
    writer.add_add_bos_token(begins_with_bos(planned.chat_template, tokenizer))
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if planned.chat_template is not None:
        writer.add_chat_template(planned.chat_template)
