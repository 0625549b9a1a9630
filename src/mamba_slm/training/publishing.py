"""The finished model of a run: one folder, with whole weights, that other programs can use."""

from __future__ import annotations

import shutil
from pathlib import Path

from mamba_slm.core.files import folder_written_atomically
from mamba_slm.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_config
from mamba_slm.model.hf_folder import make_loadable
from mamba_slm.model.stored import open_tensors, write_whole
from mamba_slm.text.hf_tokenizer import special_token_ids, tokenizer_config
from mamba_slm.text.tokenizer import FILE_NAME as TOKENIZER_FILE
from mamba_slm.text.tokenizer import Tokenizer


def publish_model(checkpoint: Path, folder: Path) -> None:
    """Copy the model of a checkpoint, without the trainer's state, to `folder`, which is replaced.

    What transformers wants to find in a model folder is added (`model/hf_folder.py`); weights in pieces are joined,
    one tensor in memory at a time.
    """
    replaced, new = (folder.with_name(f".{folder.name}.{word}") for word in ("replaced", "new"))
    for leftover in (replaced, new):
        shutil.rmtree(leftover, ignore_errors=True)
    with folder_written_atomically(new) as writing:
        for name in (CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE):
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, writing / name)
        if not (writing / WEIGHTS_FILE).is_file():
            write_whole(open_tensors(checkpoint, "model", WEIGHTS_FILE), writing / WEIGHTS_FILE)
        complete_for_transformers(writing)
    if folder.exists():
        folder.rename(replaced)
    new.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def complete_for_transformers(folder: Path) -> None:
    """Add what transformers wants to find, also about the tokenizer where the folder has one."""
    if not (folder / TOKENIZER_FILE).is_file():
        make_loadable(folder)
        return
    tokenizer = Tokenizer.load(folder)
    max_tokens = load_config(folder).max_context_tokens
    make_loadable(
        folder,
        token_ids=special_token_ids(tokenizer),
        tokenizer_config=tokenizer_config(tokenizer, max_tokens=max_tokens),
    )
