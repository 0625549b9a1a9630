"""A folder of Hugging Face, run by the class of transformers that it names. No code in the folder is run.

Letters: t time, d width, v vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from mamba_slm.core.errors import CheckpointError, DataError, SetupError
from mamba_slm.core.optional import require
from mamba_slm.export.formats import CONFIG_FILE, config_of
from mamba_slm.export.trace import FIRST, LAST, Trace, residual_names
from mamba_slm.model.granite import MODEL_TYPE
from mamba_slm.model.granite_import import LAYER_TYPES
from mamba_slm.model.pattern import FEED_FORWARD

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
PURPOSE = "running a model of Hugging Face"
GROUPED_NORM_SINCE = (5, 23)
"""The transformers whose gated RMS norm of Mamba-2 looks at each group alone, as the paper's does."""


def open_hf(path: Path, *, dtype: torch.dtype = torch.float32) -> HfRunner:
    """Open a folder that transformers loads as a causal language model with its own classes.

    Raises:
        DataError: the config names an architecture that transformers has not, or that only code in the folder defines.
        CheckpointError: the weights are damaged, or tensors are missing, unknown or mis-shaped; names the first.
        MissingDependencyError: transformers is absent.
        SetupError: transformers is too old for the model.
    """
    transformers = require("transformers", extra="hf", purpose=PURPOSE)
    config = config_of(path)
    kind = (config or {}).get("model_type")
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise DataError(
            f"{path / CONFIG_FILE} has model_type {kind!r}: transformers {transformers.__version__} has no such "
            "causal language model",
            hint="only classes of transformers itself are run, never code from a model folder",
        )
    require_grouped_norm(config or {}, transformers.__version__)
    with quiet_transformers():
        try:
            network, report = transformers.AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"transformers cannot load {path}: {first}", hint="--debug shows the rest") from error
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if report[what]:
            name = sorted(str(each) for each in report[what])[0]
            raise CheckpointError(f"{path} does not fit its config: {what.replace('_keys', '')} tensor {name}")
    return HfRunner(path, network.eval(), dtype)


def require_grouped_norm(config: Mapping[str, Any], version: str) -> None:
    """Raise SetupError where this transformers computes the gated norm of a Mamba layer over all groups together."""
    groups = config.get("mamba_n_groups", 1)
    if groups > 1 and tuple(int(part) for part in version.split(".")[:2]) < GROUPED_NORM_SINCE:
        since = ".".join(str(part) for part in GROUPED_NORM_SINCE)
        raise SetupError(
            f"the Mamba layers have {groups} groups, which transformers {version} normalises together: other logits",
            hint=f"pip install -U 'transformers>={since}'; models of one group, as all presets are, work with this one",
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No advice and no progress bars from transformers, as long as this lasts."""
    logging = require("transformers.utils.logging", extra="hf", purpose=PURPOSE)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


class HfRunner:
    """A causal language model of transformers on the CPU."""

    def __init__(self, folder: Path, network: Any, dtype: torch.dtype):
        self.folder = folder
        self.network = network
        version = require("transformers", extra="hf", purpose=PURPOSE).__version__
        self.description = f"transformers {version}, {type(network).__name__}, {str(dtype).removeprefix('torch.')}"
        self.vocab_size: int = network.config.vocab_size
        self.max_tokens: int = getattr(network.config, "max_position_embeddings", None) or 1 << 30

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer in the folder, as transformers opens it; None where there is none.

        Raises:
            DataError: there is one, and it cannot be opened.
        """
        if not any((self.folder / name).is_file() for name in TOKENIZER_FILES):
            return None
        transformers = require("transformers", extra="hf", purpose=PURPOSE)
        with quiet_transformers():
            try:
                return transformers.AutoTokenizer.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=False
                )
            except (OSError, ValueError, KeyError) as error:
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise DataError(f"transformers cannot open the tokenizer in {self.folder}: {first}") from error

    def encode(self, text: str) -> list[int] | None:
        """See `Runner.encode`."""
        if self.tokenizer is None:
            return None
        with quiet_transformers():  # it warns of texts longer than the context
            return list(self.tokenizer.encode(text, add_special_tokens=False))

    def trace(self, tokens: Sequence[int], *, residuals: bool = False) -> Trace:
        """See `Runner.trace`; only GraniteMoeHybrid shows its residual stream."""
        points: dict[str, Tensor] = {}
        with contextlib.ExitStack() as stack, torch.no_grad(), quiet_transformers():
            if residuals and self.network.config.model_type == MODEL_TYPE:
                for hook in self.watch(points):
                    stack.callback(hook.remove)
            logits = self.network(torch.tensor([list(tokens)]), use_cache=False).logits[0].float()
        order = {name: place for place, name in enumerate(self.names())} if points else {}
        return Trace(logits, tuple(sorted(points.items(), key=lambda point: order[point[0]])))

    def names(self) -> list[str]:
        """The points of the residual stream of a GraniteMoeHybrid."""
        kinds = [LAYER_TYPES[kind] for kind in self.network.config.layer_types]
        return residual_names("".join(kind + FEED_FORWARD for kind in kinds))

    def watch(self, points: dict[str, Tensor]) -> Iterator[Any]:
        """Hooks that fill `points`: what enters the first norm of a layer, its second norm, and what leaves it."""

        def entering(name: str):
            return lambda _, inputs: points.__setitem__(name, inputs[0][0].float())

        def leaving(name: str):
            return lambda _, __, output: points.__setitem__(name, output[0].float())

        network, names = self.network.model, self.names()
        yield network.layers[0].input_layernorm.register_forward_pre_hook(entering(FIRST))
        for index, layer in enumerate(network.layers):
            yield layer.post_attention_layernorm.register_forward_pre_hook(entering(names[2 * index + 1]))
            following = network.layers[index + 1].input_layernorm if index + 1 < len(network.layers) else network.norm
            yield following.register_forward_pre_hook(entering(names[2 * index + 2]))
        yield network.norm.register_forward_hook(leaving(LAST))
