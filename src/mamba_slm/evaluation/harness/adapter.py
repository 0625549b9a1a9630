"""A model of ours behind the interface through which lm-evaluation-harness asks.

What is asked of the model equals `HFLM` of lm-evaluation-harness 0.4.13 to the token: how a pair is cut into context
and continuation, what begins an empty context, what is cut off when a text is too long, where generated text ends. How
the answer is computed is ours: see `scoring` and `generating`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tokenizers
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.optional import require
from mamba_slm.evaluation.harness.answers import AnswerStore, answer_key
from mamba_slm.evaluation.harness.generating import GenerationSettings, Generator
from mamba_slm.evaluation.harness.scoring import Answer, Request, Scorer
from mamba_slm.text.chat import render_chat_text
from mamba_slm.text.tokenizer import Tokenizer


class Asked(Protocol):
    """A request of lm-evaluation-harness (its `Instance`)."""

    task_name: str | None
    doc_id: int | None

    @property
    def args(self) -> tuple[Any, ...]: ...


class HarnessModel:
    """What `lm_eval.evaluator.evaluate` calls its `lm`."""

    rank = 0
    world_size = 1

    def __init__(
        self,
        scorer: Scorer,
        generator: Generator,
        tokenizer: Tokenizer,
        store: AnswerStore,
        *,
        add_bos: bool = False,
        chat_template: str | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        """Args:
        add_bos: put the token that begins a document before every prompt; lm-evaluation-harness does so only where
            the tokenizer itself does.
        chat_template: Jinja, for `apply_chat_template`.
        say: told how far it is.
        """
        self.scorer, self.generator, self.tokenizer, self.store = scorer, generator, tokenizer, store
        self.add_bos, self.template, self.say = add_bos, chat_template, say

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.scorer.model.embedding.weight.device

    @property
    def tokenizer_name(self) -> str:
        """For names of caches."""
        return self.tokenizer.fingerprint[:16]

    @functools.cached_property
    def reader(self) -> tokenizers.Tokenizer:
        """The tokenizer as transformers uses it: adds what it adds, and reads the special tokens of a chat template."""
        backend = tokenizers.Tokenizer.from_str(self.tokenizer.backend.to_str())
        backend.encode_special_tokens = False
        return backend

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a prompt."""
        bos = self.tokenizer.token_text(self.tokenizer.bos_id)
        add_special_tokens = add_special_tokens and not (bos and text.startswith(bos))
        ids = self.reader.encode(text, add_special_tokens=add_special_tokens).ids
        if self.add_bos and add_special_tokens and ids[:1] != [self.tokenizer.bos_id]:
            ids = [self.tokenizer.bos_id, *ids]
        return ids

    def request(self, context: str, continuation: str) -> Request:
        """A pair of texts in tokens; spaces at the end of the context go to the continuation."""
        if context == "":
            ids = self.encode(continuation, add_special_tokens=False)
            first = self.tokenizer.bos_id
            return Request((first,), tuple(ids)) if ids[:1] != [first] else Request((first,), tuple(ids[1:]))
        kept = context.rstrip()
        continuation = context[len(kept) :] + continuation
        before = self.encode(kept)
        after = self.encode(kept + continuation)[len(before) :]
        return Request(tuple(before or [self.tokenizer.bos_id]), tuple(after))

    def loglikelihood(self, requests: Sequence[Asked], **_unused: object) -> list[tuple[float, bool]]:
        """Natural log-probability of a continuation after its context, and whether it is what greedy decoding says."""
        keys = [answer_key("loglikelihood", *one.args) for one in requests]
        todo = {key: one for key, one in zip(keys, requests, strict=True) if self.store.get(key) is None}
        pairs = list(todo.items())
        progress = Progress(len(pairs), len(set(keys)), self.say)

        def keep(number: int, answer: Answer) -> None:
            key, one = pairs[number]
            self.store.add(key, [answer.logprob, answer.is_greedy], task=one.task_name, question=one.doc_id)
            progress.one_more()

        self.scorer.score([self.request(*one.args) for _, one in pairs], keep)
        answers = (self.store.answers[key] for key in keys)
        return [(logprob, greedy) for logprob, greedy in answers]

    def loglikelihood_rolling(self, requests: Sequence[Asked], **_unused: object) -> list[float]:
        """Natural log-probability of whole texts, read in windows that do not overlap."""
        windows: Any = require("lm_eval.utils", extra="eval", purpose="windows of a long text")
        totals: list[float] = []
        for one in requests:
            (text,) = one.args
            key = answer_key("loglikelihood_rolling", text)
            if self.store.get(key) is None:
                pieces = windows.get_rolling_token_windows(
                    token_list=self.encode(text),
                    prefix_token=self.tokenizer.bos_id,
                    max_seq_len=self.scorer.max_tokens,
                    context_len=1,
                )
                pairs = (windows.make_disjoint_window(piece) for piece in pieces)
                answers = self.scorer.score([Request(tuple(before), tuple(after)) for before, after in pairs])
                total = sum(answer.logprob for answer in answers)
                self.store.add(key, total, task=one.task_name, question=one.doc_id)
            totals.append(self.store.answers[key])
        return totals

    def generate_until(self, requests: Sequence[Asked], **_unused: object) -> list[str]:
        """The text that follows each prompt, up to a stop string, the end of the document or the largest length."""
        keys = [answer_key("generate_until", *one.args) for one in requests]
        todo = {key: one for key, one in zip(keys, requests, strict=True) if self.store.get(key) is None}
        progress = Progress(len(todo), len(set(keys)), self.say)
        by_settings: dict[GenerationSettings, list[tuple[str, Asked]]] = {}
        for key, one in todo.items():
            by_settings.setdefault(GenerationSettings.from_harness(one.args[1]), []).append((key, one))
        for settings, pairs in by_settings.items():

            def keep(number: int, text: str, pairs: list[tuple[str, Asked]] = pairs) -> None:
                key, one = pairs[number]
                self.store.add(key, text, task=one.task_name, question=one.doc_id)
                progress.one_more()

            self.generator.generate([self.encode(one.args[0]) for _, one in pairs], settings, keep)
        return [self.store.answers[key] for key in keys]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text; without a generation prompt its last message is left open to be continued.

        Raises:
            ConfigError: the model has no chat template.
        """
        if self.template is None:
            raise ConfigError("this model has no chat template", hint="leave --chat out: the questions are put as text")
        names = (self.tokenizer.token_text(id) or "" for id in (self.tokenizer.bos_id, self.tokenizer.eos_id))
        bos, eos = names
        text = render_chat_text(
            chat_history,
            add_generation_prompt=add_generation_prompt,
            template=self.template,
            bos_token=bos,
            eos_token=eos,
        )
        if add_generation_prompt:
            return text
        last = chat_history[-1]["content"]
        return text[: text.rindex(last) + len(last)]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for the record."""
        return self.template if chat_template else None

    def set_cache_hook(self, cache_hook: object) -> None:
        """Nothing: answers are kept by the store."""


class Progress:
    """Says at every tenth how far it is."""

    def __init__(self, todo: int, every: int, say: Callable[[str], None]):
        self.todo, self.done, self.say, self.said = todo, 0, say, 0
        if every > todo:
            say(f"{every - todo:,} of {every:,} answers were there already")

    def one_more(self) -> None:
        """Count an answer."""
        self.done += 1
        if 10 * self.done // self.todo > self.said:
            self.said = 10 * self.done // self.todo
            self.say(f"{self.done:,} of {self.todo:,} answers")
