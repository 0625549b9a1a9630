"""A `LanguageModel` as the table that the compiled step walks through, and its state as pointers."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mamba_slm.core.errors import UsageError
from mamba_slm.generation.compiled.after import StatesAfter
from mamba_slm.generation.compiled.deltas import Deltas
from mamba_slm.generation.compiled.guesses import Guesses
from mamba_slm.model.attention import Attention
from mamba_slm.model.config import ModelConfig
from mamba_slm.model.mamba2 import Mamba2
from mamba_slm.model.packed import PackedEmbedding, PackedProjection
from mamba_slm.model.pattern import ATTENTION, MAMBA
from mamba_slm.model.stack import LanguageModel, Sublayer
from mamba_slm.model.state import InferenceState, KeyValueState, MambaState
from mamba_slm.model.swiglu import SwiGLU
from mamba_slm.ops.attention import alibi_slopes
from mamba_slm.ops.native.decode_step import Call, Layer, Model, functions
from mamba_slm.ops.native.row_product import Matrix, matrix_of
from mamba_slm.ops.rope import rope_frequencies


class CompiledStep:
    """One token of every row: all of a model in one call of C++.

    Weights are read where the model has them, so changing them in place changes the step, except A = -exp(A_log).
    """

    def __init__(self, model: LanguageModel):
        self.config = c = model.config
        self._model = model  # keeps the weights alive
        self._kept: list[Tensor] = []
        layers = (Layer * len(c.pattern))(*(self._layer(part) for part in model.sublayers))  # type: ignore[arg-type]
        head = model.embedding if model.lm_head is None else model.lm_head
        self._layers = layers
        self._table = Model(
            d=c.hidden_size,
            num_layers=len(c.pattern),
            layers=ctypes.addressof(layers),
            embedding=self._matrix(model.embedding),
            head=self._matrix(head),
            final_norm=self._pointer(model.final_norm.weight),
            eps=c.norm_eps,
            heads=c.num_heads,
            kv_heads=c.num_kv_heads,
            head_dim=c.head_dim,
            window=c.attention_window,
            inner=c.inner_size,
            conv_size=c.conv_size,
            taps=c.conv_kernel,
            ssm_heads=c.num_ssm_heads,
            ssm_dim=c.ssm_head_dim,
            state=c.state_size,
            groups=c.num_groups,
            feed_forward=c.feed_forward_size,
            vocab=c.vocab_size,
        )
        if model.position_embedding is not None:
            self._table.has_positions, self._table.positions = 1, self._matrix(model.position_embedding)
        if c.position == "rope":
            frequencies, self._table.rotary_scale = rotary_frequencies(c)
            self._table.frequencies = self._pointer(frequencies)
        if c.position == "alibi":
            self._table.slopes = self._pointer(alibi_slopes(c.num_heads))

    def __call__(self, tokens: Tensor, state: InferenceState, *, hidden: Tensor | None = None) -> Tensor:
        """Tokens [b 1] to logits [b v]; advances `state` in place. `hidden` [b d] gets the residuals before the norm.

        Raises:
            UsageError: a token outside the vocabulary; the state is as it was.
        """
        logits = self._run(tokens, state, new_slots=1, num_tokens=state.num_tokens, after=None, hidden=hidden)
        state.length += 1
        state.num_tokens = state.num_tokens + 1
        return logits

    def sequence(self, tokens: Tensor, state: InferenceState, after: StatesAfter) -> Tensor:
        """Successive tokens [t] of one row to logits [t v], reading each matrix once.

        Keys and values are appended. The states of Mamba layers stay as they are; `after` gets those after each token,
        so that any beginning of the tokens can be kept (`StatesAfter.keep`). Counts are left to that, too.

        Raises:
            UsageError: a token outside the vocabulary, or a state of several rows; nothing has changed.
        """
        if state.batch_size != 1:
            raise UsageError(f"a sequence continues one row, the state has {state.batch_size}")
        t = tokens.shape[0]
        positions = state.num_tokens + torch.arange(t)
        return self._run(tokens, state, new_slots=t, num_tokens=positions, after=after.places(state, t))

    def _run(
        self,
        tokens: Tensor,
        state: InferenceState,
        *,
        new_slots: int,
        num_tokens: Tensor,
        after: ctypes.Array[ctypes.c_void_p] | None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """The call: one logits row [v] per token."""
        state.reserve(new_slots)
        pointers = (ctypes.c_void_p * (2 * len(state.layers)))()
        is_bf16 = False
        for number, layer in enumerate(state.layers):
            if isinstance(layer, MambaState):
                layer.window, layer.ssm = pair = layer.window.contiguous(), layer.ssm.contiguous()
            elif isinstance(layer, KeyValueState):
                layer.keys, layer.values = pair = layer.keys.contiguous(), layer.values.contiguous()
            else:
                continue
            is_bf16 = pair[0].dtype == torch.bfloat16
            pointers[2 * number], pointers[2 * number + 1] = pair[0].data_ptr(), pair[1].data_ptr()
        tokens, num_tokens = tokens.flatten().long().contiguous(), num_tokens.contiguous()
        call = Call(
            length=state.length,
            capacity=state.positions.shape[1],
            is_bf16=is_bf16,
            has_padding=state.has_padding,
            num_tokens=num_tokens.data_ptr(),
            positions=state.positions.data_ptr(),
            valid=state.valid.data_ptr(),
            states=ctypes.addressof(pointers),
            after=None if after is None else ctypes.addressof(after),
            hidden=None if hidden is None else hidden.data_ptr(),
        )
        return self._execute(call, tokens, where="row" if after is None else "place")

    def in_blocks(
        self,
        tokens: Tensor,
        layers: Sequence[tuple[Tensor, Tensor] | None],
        *,
        num_tokens: Tensor,
        slots: Tensor,
        table: Tensor,
        alike: bool = False,
        deltas: Deltas | None = None,
        adapters: Tensor | None = None,
    ) -> Tensor:
        """One token of rows of different lengths, whose states lie in memory that they share; it is written in place.

        Args:
            tokens: [b].
            layers: of each sublayer, contiguous: windows [s w c] and SSM states [s h p n]; keys and values
                [blocks k block_tokens d], block_tokens a multiple of 4; None for those that remember nothing.
            num_tokens: [b] int64, read by each row before.
            slots: [b] int64, all different: the s of each row.
            table: [b n] int64, the blocks of each row in order, the one for the new token included.
            alike: whether the logits of a row must not depend on the other rows by a bit.
            deltas: what adapters add; None: all rows are of the model itself.
            adapters: [b] int64, the adapter of each row, with deltas only.

        Returns:
            logits [b v].

        Raises:
            UsageError: a token outside the vocabulary; nothing has changed.
        """
        pointers = pointers_to(layers)
        call = self._call_in_blocks(layers, num_tokens, slots, table)
        call.states, call.alike = ctypes.addressof(pointers), alike
        if deltas is not None:
            assert adapters is not None
            deltas.put_into(call, adapters)
        return self._execute(call, tokens, where="row")

    def guesses_in_blocks(
        self,
        tokens: Tensor,
        layers: Sequence[tuple[Tensor, Tensor] | None],
        *,
        num_tokens: Tensor,
        slots: Tensor,
        table: Tensor,
        starts: Tensor,
        deltas: Deltas | None = None,
        adapters: Tensor | None = None,
    ) -> Guesses:
        """As `in_blocks`, with several successive tokens of a sequence, one row for each: all but the first of each
        sequence are guesses, which `Guesses.keep` takes back or lets count.

        Args:
            starts: [g + 1] int64 from 0 to the number of rows: sequence i has the rows starts[i] … starts[i + 1] - 1.

        Raises:
            UsageError: a token outside the vocabulary; nothing has changed.
        """
        c, rows = self.config, len(tokens)
        after = [
            (
                pair[0].new_empty(rows, *pair[0].shape[1:]),
                torch.empty(rows * (c.conv_size + c.num_ssm_heads)),
            )
            if pair is not None and kind == MAMBA
            else None
            for pair, kind in zip(layers, c.pattern, strict=True)
        ]
        places = (pointers_to(layers), pointers_to(after))
        call = self._call_in_blocks(layers, num_tokens, slots, table)
        call.states, call.after = (ctypes.addressof(each) for each in places)
        call.starts, call.num_sequences = starts.data_ptr(), len(starts) - 1
        if deltas is not None:
            assert adapters is not None
            deltas.put_into(call, adapters)
        logits = self._execute(call, tokens, where="row")
        return Guesses(
            logits,
            starts,
            call,
            ctypes.addressof(self._table),
            (self, layers, after, places, slots, num_tokens, table, deltas, adapters),
        )

    def _call_in_blocks(
        self, layers: Sequence[tuple[Tensor, Tensor] | None], num_tokens: Tensor, slots: Tensor, table: Tensor
    ) -> Call:
        """A call without pointers to states."""
        block, is_bf16 = 4, False
        for pair, kind in zip(layers, self.config.pattern, strict=True):
            if pair is not None:
                is_bf16 = pair[0].dtype == torch.bfloat16
                block = pair[0].shape[2] if kind == ATTENTION else block
        return Call(
            is_bf16=is_bf16,
            num_tokens=num_tokens.data_ptr(),
            slots=slots.data_ptr(),
            table=table.data_ptr(),
            table_stride=table.shape[1],
            block=block,
        )

    def _execute(self, call: Call, tokens: Tensor, *, where: str) -> Tensor:
        """Run a call whose states are there: one logits row [v] per token."""
        logits = torch.empty(len(tokens), self.config.vocab_size)
        call.rows, call.threads = len(tokens), torch.get_num_threads()
        call.tokens, call.logits = tokens.data_ptr(), logits.data_ptr()
        table, run = ctypes.addressof(self._table), functions()
        memory = torch.empty(run.decode_memory(table, ctypes.addressof(call)))
        call.memory = memory.data_ptr()
        bad = run.decode_step(table, ctypes.addressof(call))
        if bad >= 0:
            raise UsageError(
                f"{where} {bad} holds token {int(tokens[bad])}, but the model's vocabulary has "
                f"{self.config.vocab_size} tokens"
            )
        return logits

    def _pointer(self, tensor: Tensor) -> int:
        """Of a float32 tensor, contiguous, that lives as long as this."""
        self._kept.append(tensor.detach().float().contiguous())
        return self._kept[-1].data_ptr()

    def _matrix(self, module: nn.Module) -> Matrix:
        """Of a projection or an embedding."""
        if isinstance(module, PackedProjection | PackedEmbedding):
            return matrix_of(module.packed)
        assert isinstance(module.weight, Tensor) and module.weight.is_contiguous()
        return matrix_of(module.weight)

    def _layer(self, sublayer: Sublayer) -> Layer:
        """The weights of one sublayer."""
        mixer = sublayer.mixer
        layer = Layer(letter=ord(sublayer.kind), norm=self._pointer(sublayer.norm.weight))
        match mixer:
            case Attention():
                modules = (mixer.q_proj, mixer.k_proj, mixer.v_proj, mixer.o_proj)
            case SwiGLU():
                modules = (mixer.gate_up_proj, mixer.down_proj)
            case Mamba2():
                modules = (mixer.in_proj, mixer.out_proj)
                layer.conv_weight = self._pointer(mixer.conv_weight.t())
                layer.conv_bias = self._pointer(mixer.conv_bias)
                layer.dt_bias = self._pointer(mixer.dt_bias)
                layer.A = self._pointer(-torch.exp(mixer.A_log.detach().float()))
                layer.D = self._pointer(mixer.D)
                layer.gated_norm = self._pointer(mixer.norm.weight)
            case _:
                raise TypeError(f"no compiled formula for {type(mixer).__name__}")
        for number, module in enumerate(modules):
            layer.matrices[number] = self._matrix(module)
        return layer


def pointers_to(layers: Sequence[tuple[Tensor, Tensor] | None]) -> ctypes.Array[ctypes.c_void_p]:
    """Two for each layer, null where it has no memory; valid as long as the tensors are."""
    pointers = (ctypes.c_void_p * (2 * len(layers)))()
    for number, pair in enumerate(layers):
        if pair is not None:
            pointers[2 * number], pointers[2 * number + 1] = pair[0].data_ptr(), pair[1].data_ptr()
    return pointers


def rotary_frequencies(config: ModelConfig) -> tuple[Tensor, float]:
    """As `mamba_slm.model.attention.rotary_tables` uses them."""
    return rope_frequencies(
        config.head_dim,
        theta=config.rope_theta,
        scaling=config.rope_scaling,
        factor=config.rope_scaling_factor,
        original_context_tokens=round(config.max_context_tokens / config.rope_scaling_factor),
    )
