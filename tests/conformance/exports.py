"""Our model in other formats, run by the programs that people run them with. They have no gradients."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path as FilePath

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from conformance.models import ALL_CONFIGS, CONFIGS
from conformance.paths import Path, one_by_one
from mamba_slm.export.gguf.layout import with_padded_vocabulary
from mamba_slm.export.gguf.read import read_gguf
from mamba_slm.export.gguf.write import plan_file, write_gguf
from mamba_slm.export.hf.export import export_hf
from mamba_slm.export.hf.importing import import_hf
from mamba_slm.export.hf.runner import open_hf
from mamba_slm.export.onnx.build import build_graph
from mamba_slm.export.onnx.plan import WeightPlan
from mamba_slm.export.onnx.readings import Batch, in_pieces, padded_left, read_batch, whole
from mamba_slm.export.onnx.session import open_session
from mamba_slm.export.source import Source
from mamba_slm.model.checkpoint import load_model, save_model
from mamba_slm.model.onnx_contract import Form
from mamba_slm.model.stack import LanguageModel
from mamba_slm.text.tokenizer import END_OF_TEXT, Tokenizer

Reading = Callable[[Sequence[Sequence[int]]], Iterator[Batch]]


def in_onnx_runtime(model: LanguageModel, sequences: Sequence[Tensor], *, form: Form, reading: Reading) -> list[Tensor]:
    """The logits that ONNX Runtime gives."""
    session = open_session(build_graph(model, form, WeightPlan()).SerializeToString(), num_threads=1)
    found: dict[int, Tensor] = {}
    for batch in reading([tokens.tolist() for tokens in sequences]):
        for number, (logits, *_) in zip(batch.sequences, read_batch(session, model.config, batch), strict=True):
            found[number] = torch.from_numpy(logits)
    return [found[number] for number in range(len(sequences))]


def onnx(form: Form, name: str, what: str, reading: Reading) -> Path:
    """An entry for one form and one way of reading."""
    layouts = (*CONFIGS, "portable, heads of 16") if form == "fused" else tuple(CONFIGS)
    logits = partial(in_onnx_runtime, form=form, reading=reading)
    return Path(name=f"ONNX {form}{name}", what=what, logits=logits, layouts=layouts, gradients=False)


def exported(model: LanguageModel, folder: FilePath) -> FilePath:
    """The model as a folder of Hugging Face, in several files."""
    (folder / "model").mkdir()
    save_model(model, folder / "model")
    return export_hf(folder / "model", folder / "out", needs_tokenizer=False, max_shard_bytes=20_000).out


def in_transformers(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """The logits that transformers' own class gives."""
    with tempfile.TemporaryDirectory() as folder:
        runner = open_hf(exported(model, FilePath(folder)))
        return [runner.trace(tokens.tolist()).logits for tokens in sequences]


def imported_again(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Exported, imported again, and run in our model; every weight must have kept its bits."""
    with tempfile.TemporaryDirectory() as folder:
        out = exported(model, FilePath(folder))
        read = load_model(import_hf(out, FilePath(folder) / "again", needs_tokenizer=False).out)
    before, after = model.state_dict(), read.state_dict()
    assert list(before) == list(after)
    assert all(before[name].equal(after[name]) for name in before)
    with torch.no_grad():
        return one_by_one(read, sequences)


def tiny_tokenizer() -> Tokenizer:
    """A tokenizer small enough for the suite's models; a GGUF has one, whatever it is."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:40]
    texts = [END_OF_TEXT, *letters, letters[0] + letters[1]]
    vocab = {text: id for id, text in enumerate(texts)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[(letters[0], letters[1])]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_TEXT])
    return Tokenizer(backend)


def write_float32_gguf(model: LanguageModel, path: FilePath) -> None:
    """The model in float32, with a vocabulary that can be written."""
    source = Source(path.parent, with_padded_vocabulary(model), tiny_tokenizer())
    write_gguf(plan_file(source, file_type="F32", name="conformance"), path)


def through_gguf(model: LanguageModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """Written as GGUF, read back through `gguf`'s dequantizer, and run in our model."""
    with tempfile.TemporaryDirectory() as folder:
        path = FilePath(folder) / "model.gguf"
        write_float32_gguf(model, path)
        read = read_gguf(path).model
    with torch.no_grad():
        return [logits[:, : model.config.vocab_size] for logits in one_by_one(read, sequences)]


FUSED: Form = "fused"
PORTABLE: Form = "portable"
ONNX: dict[str, Path] = {
    path.name: path
    for form in (FUSED, PORTABLE)
    for path in (
        onnx(form, "", "the exported graph in ONNX Runtime, each sequence alone", whole),
        onnx(form, ", in pieces", "its states carried over cuts after 1, 3, 62, 64, 65 and 129 tokens", in_pieces),
        onnx(
            form,
            ", batch",
            "prompts in one batch, padded on the left, then 5 tokens per row one at a time",
            padded_left,
        ),
    )
}
GGUF = Path(
    name="GGUF",
    what="exported with float32 weights, read back, each sequence alone",
    logits=through_gguf,
    layouts=(*CONFIGS, "portable, nope"),
    gradients=False,
)
HUGGING_FACE = Path(
    name="exported to Hugging Face",
    what="a folder in several files, opened by transformers' GraniteMoeHybrid, each sequence alone",
    logits=in_transformers,
    layouts=tuple(ALL_CONFIGS),
    row="oracle",
    gradients=False,
)
IMPORTED = Path(
    name="exported and imported",
    what="the same folder read into our model again, every weight with the same bits",
    logits=imported_again,
    layouts=tuple(ALL_CONFIGS),
    gradients=False,
)
EXPORTS: dict[str, Path] = {HUGGING_FACE.name: HUGGING_FACE, IMPORTED.name: IMPORTED, GGUF.name: GGUF, **ONNX}
