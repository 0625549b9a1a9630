"""Models really trained on real text, for what random weights cannot show: greedy text, agreement after rounding.

Each is trained once per state of the sources that make it and kept in pytest's cache, about two minutes on two cores.
It must compress held-out stories better than `xz -9e` does each alone, or it is no model and tests that use it fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import mamba_slm
from mamba_slm.data.document import Document
from mamba_slm.data.encode import encode_batch
from mamba_slm.data.splits import is_held_out
from mamba_slm.evaluation.baselines import XZ_EACH, compressor_rows, total_bytes
from mamba_slm.evaluation.bits_per_byte import measure_bits_per_byte
from mamba_slm.model.checkpoint import load_model
from mamba_slm.text.tokenizer import Tokenizer
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.run import train

STORIES = Path(__file__).parents[1].parent / "shared/data/corpora/tinystories/smallGPT_tiny_stories.txt"
STORY_BEGINS = re.compile(r"\n(?=Once upon a time|One day, an? )")
HELD_OUT_SHARE = 0.05
SOURCES_THAT_MAKE_IT = ("data", "model", "ops", "text", "training")
SETTINGS = TrainConfig(
    model="nano",
    # every size as llama.cpp and its block formats want it: heads of 64, rows in multiples of 256
    model_settings=("hidden_size=256", "num_heads=4", "num_kv_heads=2", "feed_forward_size=512", "state_size=128"),
    vocab_size=4096,
    context_tokens=512,
    batch_tokens=2048,
    max_steps=400,
    learning_rate=3e-3,
    device="cpu",
    log_every_steps=50,
    save_every_steps=1000,
    validate_every_steps=1000,
    sample_every_steps=0,
    keep_last=1,
)
TINY = replace(SETTINGS, model="tiny", model_settings=(), vocab_size=8192, max_steps=150)
"""10.6M parameters, which is enough for what small matrices hide."""


@dataclass(frozen=True)
class TrainedModel:
    """What the tests get."""

    folder: Path
    """A model folder as a finished run leaves it."""
    held_out: tuple[str, ...]
    """Stories that the model has never seen."""
    bits_per_byte: float
    """Of the model on all of `held_out`, the end of each story included."""
    xz_bits_per_byte: float
    """Of `xz -9e` on each of them alone."""


def stories() -> tuple[list[str], list[str]]:
    """Training and held-out stories, each once."""
    texts = dict.fromkeys(text.strip() + "\n" for text in STORY_BEGINS.split(STORIES.read_text(encoding="utf-8")))
    parts: tuple[list[str], list[str]] = ([], [])
    for text in texts:
        parts[is_held_out(hashlib.sha256(text.encode()).hexdigest(), HELD_OUT_SHARE)].append(text)
    return parts


def content_key(recipe: TrainConfig) -> str:
    """Changes with the text, the settings and the code that trains."""
    root = Path(mamba_slm.__file__).parent
    digest = hashlib.sha256(repr((recipe, HELD_OUT_SHARE, STORY_BEGINS)).encode())
    digest.update(STORIES.read_bytes())
    for path in sorted(path for name in SOURCES_THAT_MAKE_IT for path in (root / name).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def train_and_measure(folder: Path, recipe: TrainConfig) -> None:
    """Train with the package's own trainer; leave `run/` and what it scored in `measured.json`."""
    training, held_out = stories()
    for name, texts in (("training", training), ("held-out", held_out)):
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    settings = {"data": (str(folder / "training.jsonl"),), "validation": str(folder / "held-out.jsonl")}
    train(TrainConfig(**{**vars(recipe), **settings}), run=folder / "run", command=("test",), say=lambda line: None)

    model_folder = folder / "run" / "model"
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(held_out)]
    measured = measure_bits_per_byte(
        load_model(model_folder),
        encode_batch(Tokenizer.load(model_folder), documents),
        num_bytes=total_bytes(held_out),
        context_tokens=recipe.context_tokens,
    )
    xz = next(row for row in compressor_rows(held_out) if row["name"] == XZ_EACH)
    found = {"bits_per_byte": measured.bits_per_byte, "xz_bits_per_byte": xz["bits_per_byte"]}
    (folder / "measured.json").write_text(json.dumps(found), encoding="utf-8")


@contextlib.contextmanager
def only_one_process(lock_file: Path) -> Iterator[None]:
    """Let other test processes wait here."""
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def trained(pytestconfig: pytest.Config, name: str, recipe: TrainConfig) -> TrainedModel:
    """From the cache, or made now."""
    if not STORIES.is_file():
        pytest.skip("needs ../shared/data, which is not here")
    cache = pytestconfig.cache.mkdir(name)
    kept = cache / content_key(recipe)
    with only_one_process(cache / "lock"):
        if not kept.is_dir():
            for older in cache.iterdir():
                if older.is_dir():
                    shutil.rmtree(older)
            unfinished = cache / "unfinished"
            unfinished.mkdir()
            train_and_measure(unfinished, recipe)
            unfinished.rename(kept)
    found = json.loads((kept / "measured.json").read_text(encoding="utf-8"))
    model = TrainedModel(kept / "run" / "model", tuple(stories()[1]), **found)
    assert model.bits_per_byte < model.xz_bits_per_byte, f"this is no language model: {found}"
    return model


@pytest.fixture(scope="session")
def trained_model(pytestconfig) -> TrainedModel:
    """A portable hybrid of 3 layers and 3.0M parameters, trained on a megabyte of stories."""
    return trained(pytestconfig, "trained_model", SETTINGS)


@pytest.fixture(scope="session")
def trained_tiny(pytestconfig) -> TrainedModel:
    """The preset `tiny` of 10.6M parameters, trained on the same for about one pass."""
    return trained(pytestconfig, "trained_tiny", TINY)
