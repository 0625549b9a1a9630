"""Our model as an ordinary model of transformers: Auto classes, `generate`, Trainer, PEFT, TRL, lm-eval.

It is the same `Backbone`, so it computes what `LanguageModel` computes; this file translates arguments and results.
After `import mamba_slm`, `AutoModelForCausalLM.from_pretrained(folder)` gives these classes.

Letters: b batch, t time, s slots, d width, v vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mamba_slm.model.hf_config import MODEL_TYPE, HybridSlmConfig  # first: it says what to install

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.cache_utils import Cache, DynamicCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.utils import GenerationMixin
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from mamba_slm.core.errors import UsageError
from mamba_slm.model.hf_cache import adopt, count_tokens, state_of, used_slots
from mamba_slm.model.hf_packing import document_ids_of
from mamba_slm.model.init import EMBEDDING_STD, initialize_mixer
from mamba_slm.model.mamba2 import GatedRMSNorm
from mamba_slm.model.projection import Projection
from mamba_slm.model.stack import MIXERS, Backbone, LanguageModel, RMSNorm
from mamba_slm.model.state import InferenceState
from mamba_slm.ops.loss import IGNORE_INDEX, cross_entropy


class HybridSlmPreTrainedModel(PreTrainedModel):
    """What transformers wants to know about the models."""

    config_class = HybridSlmConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # the Trainer passes num_items_in_batch, so that accumulated losses weigh tokens alike
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["Sublayer"]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = [
        "A_log", "D", "dt_bias", "conv_weight", "conv_bias", "norm", "final_norm",
    ]  # fmt: skip

    def __init__(self, config: HybridSlmConfig, *args: Any, **kwargs: Any):
        if getattr(config, "quantization", None) is not None:
            raise UsageError(
                "a model that mamba-slm quantized cannot be loaded by transformers",
                hint="mamba-slm export hf MODEL --dequantize writes the numbers that its codes stand for",
            )
        super().__init__(config, *args, **kwargs)

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        """Leave it to `_init_weights` what has been loaded: for code that is not its own, transformers would skip every
        module that has no parameters beside those of its parts, which most mixers are."""
        super()._initialize_weights(module, is_custom_code=False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise what was not loaded, by the rules of `model/init.py`."""
        loaded = [p for p in module.parameters() if getattr(p, "_is_hf_initialized", False)]
        values = [p.clone() for p in loaded]
        if isinstance(module, tuple(MIXERS.values())) or getattr(module, "is_plugin_mixer", False):
            initialize_mixer(module, None, num_sublayers=len(self.config.architecture.pattern))
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0, EMBEDDING_STD)
        elif isinstance(module, RMSNorm | GatedRMSNorm):
            module.weight.fill_(1)
        elif module is getattr(self, "lm_head", None) or module is getattr(self, "score", None):
            module.weight.normal_(0, EMBEDDING_STD)  # type: ignore[operator, union-attr]
        for parameter, value in zip(loaded, values, strict=True):
            parameter.copy_(value)


class HybridSlmModel(HybridSlmPreTrainedModel, Backbone):
    """The backbone: tokens to hidden states."""

    def __init__(self, config: HybridSlmConfig):
        super().__init__(config)
        self.build(config.architecture)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:  # type: ignore[override]
        """Replace the embedding of tokens."""
        self.embedding = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        seq_idx: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        cu_seq_lens_k: Tensor | None = None,
        max_length_q: int | None = None,
        max_length_k: int | None = None,
        cache_position: Tensor | None = None,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """Hidden states [b t d] after the final norm, float32.

        Packed documents are recognised in every form that transformers' collators give: `position_ids` that do not go
        on by one, `seq_idx`, `cu_seq_lens_q`. They are kept apart in attention, convolution and scan.

        Args:
            input_ids: [b t]; or give `inputs_embeds` [b t d].
            attention_mask: [b t], or [b s+t] with a cache: 0 for padding, left or right of the tokens of a row.
            position_ids: [b t] or [1 t].
            past_key_values: any cache made with this model's config; advanced in place.
            use_cache: make a `DynamicCache` when there is none.
            output_hidden_states: also the residual stream before the first and after every sublayer; the last one
                after the final norm.
            seq_idx: [b t] number of each token's document.
            cu_seq_lens_q: [documents + 1] borders of the documents of the one row.
            cu_seq_lens_k, max_length_q, max_length_k, cache_position: say nothing new, and are not read.

        Raises:
            UsageError: a mask that is not [b s], `output_attentions`, packed documents with a cache; see also
                `Backbone.hidden_states`.
        """
        if output_attentions:
            raise UsageError("attention weights are not available: they are never held as a whole")
        if (input_ids is None) == (inputs_embeds is None):
            raise UsageError("give either input_ids or inputs_embeds, and not both")
        given = input_ids if input_ids is not None else inputs_embeds
        assert given is not None
        size = (given.shape[0], given.shape[1])
        past = 0
        if past_key_values is not None:
            adopt(past_key_values, self)
            past = used_slots(past_key_values)
        key_mask = padding_of(attention_mask, (size[0], past + size[1]))
        padding_mask = None if key_mask is None else key_mask[:, past:]
        if padding_mask is not None and bool(padding_mask.all()):
            padding_mask = None
        document_ids = document_ids_of(
            size,
            position_ids=position_ids if past == 0 else None,  # a piece of a text may begin anywhere
            seq_idx=seq_idx,
            borders=cu_seq_lens_q,
            padding_mask=padding_mask,
        )
        if document_ids is not None and (use_cache or past_key_values is not None):
            raise UsageError("packed documents cannot be read into a cache", hint="use_cache=False")
        if use_cache is None:
            wanted = bool(self.config.use_cache) and not self.architecture.num_plugins
            use_cache = wanted and not self.training and document_ids is None
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache(config=self.config)
            adopt(past_key_values, self)
        state = None
        if past_key_values is not None:
            dtype = self.embedding.weight.dtype
            state = state_of(past_key_values, self, size=size, key_mask=key_mask, device=given.device, dtype=dtype)
        residuals: list[Tensor] | None = [] if output_hidden_states or self.config.output_hidden_states else None
        hidden = self.hidden_states(
            input_ids,
            embedded=inputs_embeds,
            positions=None if position_ids is None else self.checked_positions(position_ids.expand(size), state),
            document_ids=document_ids,
            padding_mask=padding_mask,
            state=state,
            residuals=residuals,
        )
        if past_key_values is not None:
            count_tokens(past_key_values, size[1])
        output = BaseModelOutputWithPast(
            last_hidden_state=hidden,  # type: ignore[arg-type]
            past_key_values=past_key_values,
            hidden_states=None if residuals is None else (*residuals[:-1], hidden),  # type: ignore[arg-type]
        )
        return output if wants_dict(self.config, return_dict) else output.to_tuple()

    def checked_positions(self, positions: Tensor, state: InferenceState | None) -> Tensor:
        """The positions [b t] as they are.

        Raises:
            UsageError: they count otherwise than the cache does, in a model that needs the positions of cached keys.
        """
        needs_keys = self.architecture.position == "alibi" or self.architecture.attention_window
        if state is not None and state.length and needs_keys:
            counted = state.num_tokens[:, None] + torch.arange(positions.shape[1], device=positions.device)
            if not torch.equal(counted, positions):
                raise UsageError("position_ids do not go on where the cache ends", hint="leave them out")
        return positions


class HybridSlmForCausalLM(HybridSlmPreTrainedModel, GenerationMixin):
    """The backbone with a head: tokens to logits, loss, `generate`."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embedding.weight"}

    def __init__(self, config: HybridSlmConfig):
        super().__init__(config)
        self.model = HybridSlmModel(config)
        self.lm_head = Projection(config.hidden_size, config.vocab_size)
        self.post_init()

    @classmethod
    def from_language_model(cls, model: LanguageModel) -> HybridSlmForCausalLM:
        """The same weights, shared and not copied, as a model of transformers; in evaluation mode."""
        with torch.device("meta"):
            wrapped = cls(HybridSlmConfig.from_architecture(model.config))
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict(keep_vars=True).items()}
        tensors["lm_head.weight"] = tensors.pop("model.lm_head.weight", tensors["model.embedding.weight"])
        wrapped.load_state_dict(tensors, assign=True)
        wrapped.tie_weights()
        return wrapped.eval()

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.model.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:  # type: ignore[override]
        """Replace the embedding of tokens."""
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:  # type: ignore[override]
        """Replace the head."""
        self.lm_head = new_embeddings

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        """Adopt the cache before `generate` asks it for its length: theirs has none where no layer attends."""
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)  # type: ignore[misc]
        cache = model_kwargs.get("past_key_values")
        if isinstance(cache, Cache):
            adopt(cache, self.model)

    def create_masks_for_generate(self, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        """The mask [b s] as it is: `generate` would make one of [b 1 t s] for a static cache."""
        return attention_mask

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        skip_logits: bool = False,
        seq_idx: Tensor | None = None,
        cu_seq_lens_q: Tensor | None = None,
        cu_seq_lens_k: Tensor | None = None,
        max_length_q: int | None = None,
        max_length_k: int | None = None,
        cache_position: Tensor | None = None,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits [b t v] in float32, and the loss where there are labels. See `HybridSlmModel.forward`.

        Args:
            labels: [b t], the tokens themselves with -100 where nothing is learned; shifted here.
            logits_to_keep: logits of the last so many positions, or of these; 0 means all.
            num_items_in_batch: divide the summed loss by this; by the number of targets if absent.
            skip_logits: with labels, return no logits and never hold them: for long rows they are most of the memory.

        Raises:
            UsageError: `skip_logits` without labels; see also `HybridSlmModel.forward`.
        """
        outputs = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            past_key_values=past_key_values, inputs_embeds=inputs_embeds,
            use_cache=False if use_cache is None and labels is not None else use_cache,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
            seq_idx=seq_idx, cu_seq_lens_q=cu_seq_lens_q,
        )  # fmt: skip
        hidden = outputs.last_hidden_state
        loss = logits = None
        if skip_logits and labels is None:
            raise UsageError("skip_logits leaves nothing to return without labels")
        if skip_logits and labels is not None and isinstance(self.lm_head, nn.Linear):  # and not an adapter on it
            loss = self.loss_of(hidden, labels, num_items_in_batch)
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, kept].to(self.lm_head.weight.dtype)).float()
            if labels is not None:
                loss = self.loss_function(
                    logits, labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items_in_batch
                )
            logits = None if skip_logits else logits
        output = CausalLMOutputWithPast(
            loss=loss,  # type: ignore[arg-type]
            logits=logits,  # type: ignore[arg-type]
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )
        return output if wants_dict(self.config, return_dict) else output.to_tuple()

    def loss_of(self, hidden: Tensor, labels: Tensor, num_items: int | Tensor | None) -> Tensor:
        """The loss from hidden states [b t d], a chunk of positions at a time."""
        targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX).flatten()
        total = cross_entropy(hidden.flatten(0, 1), self.lm_head.weight, targets)
        return total / ((targets != IGNORE_INDEX).sum() if num_items is None else num_items)


class HybridSlmForSequenceClassification(GenericForSequenceClassification, HybridSlmPreTrainedModel):
    """The backbone with a classifier on the last token: reward models."""


def padding_of(attention_mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """[b s] True for real tokens; None where all are.

    Raises:
        UsageError: another shape.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape != size:
        raise UsageError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected {size}: one value for each token, "
            "those in the cache included"
        )
    mask = attention_mask.bool()
    return None if bool(mask.all()) else mask


def wants_dict(config: PreTrainedConfig, return_dict: bool | None) -> bool:
    """Whether to return an output object and not a tuple."""
    return config.return_dict is not False if return_dict is None else return_dict


AutoConfig.register(MODEL_TYPE, HybridSlmConfig, exist_ok=True)
AutoModel.register(HybridSlmConfig, HybridSlmModel, exist_ok=True)
AutoModelForCausalLM.register(HybridSlmConfig, HybridSlmForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(HybridSlmConfig, HybridSlmForSequenceClassification, exist_ok=True)
