"""Decoding by a CUDA graph: one token of all rows is recorded once and then replayed, without Python in between.

A graph reads and writes the same memory at every replay. So a `StaticStep` holds buffers for a number of rows and a
capacity of slots, keeps counts on the device, and attends over the whole capacity under a mask. The last slot is that
of the token being read, whose key and value are copied to where they belong. Without a GPU the same step runs operation
by operation, which is what the tests do.

Letters: b rows, s capacity, v vocabulary, k key-value heads, d head dim.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mamba_slm.core.errors import CheckFailedError, SetupError
from mamba_slm.generation.loading import open_torch
from mamba_slm.generation.runtime import Opened, RuntimeSettings, TorchRuntime
from mamba_slm.model.attention import rotary_tables
from mamba_slm.model.context import CallContext
from mamba_slm.model.pattern import plugin_letters_in
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import InferenceState, KeyValueState, LayerState, MambaState

FIRST_SLOTS = 256
"""Capacity of the first graph; it doubles when it is full, and the step is recorded again."""

WARM_UP_STEPS = 3
"""Steps before recording, in which libraries choose their kernels and take their memory."""

SELF_TEST_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Largest difference of a logit, relative to the largest logit, between the replayed and the plain step."""


class StaticKeyValues(KeyValueState):
    """Keys and values [b k s+1 d], the last slot for the token being read, and `slot` [1], where it goes in the end."""

    slot: Tensor

    def append(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """As `KeyValueState.append`, but returns the whole capacity; which slots count is the mask's business."""
        for buffer, new in ((self.keys, keys), (self.values, values)):
            new = new.transpose(1, 2).to(buffer.dtype)
            buffer[:, :, -1:] = new
            buffer.index_copy_(2, self.slot, new)
        return self.keys.transpose(1, 2), self.values.transpose(1, 2)


class StaticStep:
    """One token of `rows` rows, with room for `capacity` of them, in memory that never moves."""

    def __init__(self, model: LanguageModel, *, rows: int, capacity: int, record: bool):
        self.model, self.rows, self.capacity = model, rows, capacity
        empty = InferenceState.empty(
            model.config, rows, device=model.embedding.weight.device, dtype=model.embedding.weight.dtype
        )
        device = model.embedding.weight.device
        self.tokens = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.num_tokens = torch.zeros(rows, dtype=torch.int64, device=device)
        self.positions = torch.zeros(rows, capacity + 1, dtype=torch.int64, device=device)
        self.valid = torch.zeros(rows, capacity + 1, dtype=torch.bool, device=device)
        self.valid[:, -1] = True
        self.slots = torch.arange(capacity, device=device)
        self.layers = [self.static(layer) for layer in empty.layers]
        self.rotary = None
        if model.config.position == "rope" and model.config.num_attention:
            self.rotary = tuple(table[0] for table in rotary_tables(model.config, self.slots[None]))
        self.logits: Tensor | None = None
        self.graph = self.recorded() if record else None

    def static(self, layer: LayerState) -> LayerState:
        """Buffers of the full capacity."""
        if not isinstance(layer, KeyValueState):
            return layer
        b, k, _, d = layer.keys.shape
        keys = layer.keys.new_zeros(b, k, self.capacity + 1, d)
        made = StaticKeyValues(keys=keys, values=torch.zeros_like(keys))
        made.slot = self.slot
        return made

    def compute(self) -> Tensor:
        """Read `tokens`: advance all buffers and return logits [b v]. Nothing in here asks the device for a value."""
        model, now = self.model, self.num_tokens[:, None]
        self.positions[:, -1:] = now
        context = CallContext(
            positions=now,
            key_positions=self.positions,
            first_key=None,
            key_valid=self.valid,
            document_ids=None,
            padding_mask=None,
            length_before=0,
            rotary=None if self.rotary is None else tuple(table[now] for table in self.rotary),  # type: ignore[arg-type]
        )
        h = model.embedding(self.tokens).float()
        if model.position_embedding is not None:
            h = h + model.position_embedding(now).float()
        for sublayer, layer in zip(model.sublayers, self.layers, strict=True):
            if not isinstance(layer, MambaState):
                h = sublayer(h, context, layer)
                continue
            passing = MambaState(window=layer.window, ssm=layer.ssm)  # the sublayer replaces what it does not overwrite
            h = sublayer(h, context, passing)
            for buffer, new in ((layer.window, passing.window), (layer.ssm, passing.ssm)):
                if new is not buffer:
                    buffer.copy_(new)
        self.positions.index_copy_(1, self.slot, now)
        self.valid.index_fill_(1, self.slot, True)
        self.slot += 1
        self.num_tokens += 1
        return model.logits(model.final_norm(h))[:, 0]

    def recorded(self) -> torch.cuda.CUDAGraph:
        """The graph of `compute`, whose logits stay in `self.logits`."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_STEPS):
                self.slot.zero_()
                self.compute()
        torch.cuda.current_stream().wait_stream(aside)
        self.slot.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.logits = self.compute()
        return graph

    def run(self, tokens: Tensor) -> Tensor:
        """Read one token of every row [b 1]; logits [b v] that the next step does not touch."""
        self.tokens.copy_(tokens)
        if self.graph is None:
            return self.compute()
        self.graph.replay()
        assert self.logits is not None
        return self.logits.clone()

    def take(self, state: InferenceState) -> None:
        """Copy a state of as many rows in, and let it live in these buffers from now on."""
        used = state.length
        self.slot.fill_(used)
        self.num_tokens.copy_(state.num_tokens)
        self.positions[:, :used] = state.positions[:, :used]
        self.valid[:, :used] = state.valid[:, :used]  # which may be this memory
        self.valid[:, used:-1] = False
        for ours, theirs in zip(self.layers, state.layers, strict=True):
            if isinstance(ours, MambaState) and isinstance(theirs, MambaState):
                ours.window.copy_(theirs.window)
                ours.ssm.copy_(theirs.ssm)
            elif isinstance(ours, KeyValueState) and isinstance(theirs, KeyValueState):
                ours.keys[:, :, :used] = theirs.keys[:, :, :used]
                ours.values[:, :, :used] = theirs.values[:, :, :used]
        state.layers = [self.view(layer) for layer in self.layers]
        state.num_tokens = self.num_tokens
        state.positions, state.valid = self.positions[:, :-1], self.valid[:, :-1]

    def view(self, layer: LayerState) -> LayerState:
        """What a state holds of a buffer: the last slot is not its business."""
        if isinstance(layer, KeyValueState):
            return KeyValueState(keys=layer.keys[:, :, :-1], values=layer.values[:, :, :-1])
        return MambaState(window=layer.window, ssm=layer.ssm) if isinstance(layer, MambaState) else layer

    def has(self, state: InferenceState) -> bool:
        """Whether the state still lives in these buffers: another way of reading, or `restore`, replaces them."""
        return state.num_tokens is self.num_tokens and all(
            ours.ssm is theirs.ssm and ours.window is theirs.window
            for ours, theirs in zip(self.layers, state.layers, strict=True)
            if isinstance(ours, MambaState) and isinstance(theirs, MambaState)
        )


class GraphRuntime(TorchRuntime):
    """A `LanguageModel` whose single tokens are replayed from a CUDA graph.

    Prompts, and steps with padding or with a history that lets tokens be taken back, go the plain way. Graphs are kept
    by number of rows; a state moves into the buffers of one at its first single token, and out again, as a copy, when
    another state of as many rows wants them.
    """

    def __init__(self, model: LanguageModel, *, record: bool = True):
        """Record a step of one row, and compare a few tokens with the plain step.

        Args:
            record: False computes every step in the same buffers without a graph, on any device; for tests.

        Raises:
            SetupError: the model is not on a GPU, has ALiBi positions (made on the CPU) or a plugin's sublayer.
            CheckFailedError: the step gives other logits than the plain one.
        """
        super().__init__(model)
        if record and self.device.type != "cuda":
            raise SetupError(
                f"CUDA graphs run on NVIDIA GPUs, this model is on {self.device}", hint="use --runtime torch"
            )
        if model.config.position == "alibi":
            raise SetupError("CUDA graphs do not take ALiBi positions", hint="use --runtime torch")
        if letters := plugin_letters_in(model.config.pattern):
            raise SetupError(
                f"CUDA graphs know no buffers for the sublayer {', '.join(letters)} of a plugin",
                hint="use --runtime torch",
            )
        self.record = record
        self.description = f"torch {torch.__version__}, device {self.device}, CUDA graphs"
        self._steps: dict[int, StaticStep] = {}
        self._living: dict[int, weakref.ref[InferenceState]] = {}
        self.self_test()

    @torch.no_grad()
    def next_logits(self, tokens: Tensor, padding_mask: Tensor | None, state: InferenceState) -> Tensor:
        if tokens.shape[1] != 1 or padding_mask is not None or has_history(state):
            return super().next_logits(tokens, padding_mask, state)
        self.model.require_room(1, state)
        step = self.step_for(state)
        logits = step.run(tokens)
        state.length += 1
        return logits

    def step_for(self, state: InferenceState) -> StaticStep:
        """The step whose buffers hold the state, after moving it there if need be."""
        rows, needed = state.batch_size, state.length + 1
        step = self._steps.get(rows)
        living = self._living[rows]() if rows in self._living else None
        if step is not None and living is state and step.has(state) and needed <= step.capacity:
            return step
        if step is None or needed > step.capacity:
            capacity = FIRST_SLOTS if step is None else step.capacity
            while capacity < needed:
                capacity *= 2
            step = self._steps[rows] = StaticStep(self.model, rows=rows, capacity=capacity, record=self.record)
        elif living is not None and step.has(living):
            living.restore(living)  # with memory of its own
        step.take(state)
        self._living[rows] = weakref.ref(state)
        return step

    @torch.no_grad()
    def self_test(self) -> None:
        """Read a few tokens of a row both ways.

        Raises:
            CheckFailedError: the logits differ.
        """
        plain, static = self.new_state(1), self.new_state(1)
        for number in range(3):
            tokens = torch.tensor([[7 * number % self.config.vocab_size]], device=self.device)
            expected, found = super().next_logits(tokens, None, plain), self.next_logits(tokens, None, static)
            error = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            if not error <= SELF_TEST_TOLERANCE[self.model.embedding.weight.dtype]:
                raise CheckFailedError(
                    f"the step in a CUDA graph gives other logits than the plain one: {error:.1e} of the largest",
                    hint="use --runtime torch, and report this with the output of `mamba-slm doctor`",
                )


def has_history(state: InferenceState) -> bool:
    """Whether somebody wants to take tokens back, which needs the inputs of every token."""
    return any(isinstance(layer, MambaState) and layer.history is not None for layer in state.layers)


def open_cuda_graph(path: Path, settings: RuntimeSettings) -> Opened:
    """As `open_torch`, with decoding steps replayed from a CUDA graph.

    Raises:
        SetupError: no GPU.
        CheckFailedError: the replayed step is wrong on this machine.
    """
    opened = open_torch(path, settings)
    assert isinstance(opened.runtime, TorchRuntime)
    return replace(opened, runtime=GraphRuntime(opened.runtime.model))


def graphs_if_possible(opened: Opened) -> Opened:
    """What `auto` takes on a GPU: CUDA graphs, or the plain step with the reason why not."""
    assert isinstance(opened.runtime, TorchRuntime)
    try:
        reason = f"{opened.reason}; single tokens by CUDA graphs"
        return replace(opened, runtime=GraphRuntime(opened.runtime.model), reason=reason)
    except (SetupError, CheckFailedError, RuntimeError) as error:
        return replace(opened, reason=f"{opened.reason}; no CUDA graphs: {error}")
