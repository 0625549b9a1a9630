"""Constrained text: only tokens after which the text can still become what a grammar allows.

llguidance walks through the grammar and says which tokens may come next, special tokens and tokens that cross the
borders of the grammar's parts included. When the text is complete, the end token is one of them, or the only one.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.optional import require
from mamba_slm.generation.strategies.history import History
from mamba_slm.text.tokenizer import Tokenizer

KEPT_MATCHERS = 4096
"""Texts whose place in the grammar is remembered: those of every row and beam, and of rows taken back."""

WHITESPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as Python writes it; free white space is where small models get lost."""


class Constraint:
    """A processor that forbids what the grammar does not allow after what a row has made.

    What it returns depends on its arguments alone; places in the grammar that were reached are remembered.
    """

    def __init__(self, grammar: str, tokenizer: Tokenizer, *, what: str, end_ids: Sequence[int] = ()):
        """
        Args:
            grammar: of llguidance.
            tokenizer: of the model.
            what: the constraint in the words of the user, for errors.
            end_ids: tokens that may end the text; none: the tokenizer's end token.

        Raises:
            MissingDependencyError: llguidance is not installed.
            ConfigError: the grammar cannot be followed.
        """
        self._llguidance = require("llguidance", extra="grammar", purpose="constrained text")
        self.what = what
        start = self._llguidance.LLMatcher(self._vocabulary(tokenizer, list(end_ids)), grammar, log_level=0)
        if start.is_error():
            raise ConfigError(f"{what} cannot be followed: {reason_of(start)}")
        self._matchers: OrderedDict[tuple[int, ...], Any] = OrderedDict({(): start})

    def process(self, logits: Tensor, history: History) -> Tensor:
        """
        Raises:
            ConfigError: other settings forbid all that the constraint allows, or the grammar grew beyond the limits of
                llguidance.
        """
        allowed = torch.zeros(logits.shape, dtype=torch.bool)
        for row, made in enumerate(history.made):
            bits = np.frombuffer(self._matcher(made).compute_bitmask(), dtype=np.uint8)
            tokens = np.unpackbits(bits, bitorder="little")[: logits.shape[-1]].astype(bool)
            allowed[row, : len(tokens)] = torch.from_numpy(tokens)
        logits = logits.masked_fill(~allowed.to(logits.device), -math.inf)
        if bool((logits.amax(dim=-1) == -math.inf).any()):
            raise ConfigError(
                f"other settings forbid every token that {self.what} allows",
                hint="leave out --no-repeat-ngram-size and biases of -inf",
            )
        return logits

    def _matcher(self, made: tuple[int, ...]):
        """The place in the grammar after the tokens `made`."""
        matcher = self._matchers.get(made)
        if matcher is None:
            before = made[:-1] if made[:-1] in self._matchers else ()
            matcher = self._matchers[before].deep_copy()
            matcher.consume_tokens(list(made[len(before) :]))
            if matcher.is_error():
                raise ConfigError(f"{self.what} cannot be followed any further: {reason_of(matcher)}")
            self._matchers[made] = matcher
        self._matchers.move_to_end(made)
        self._matchers.move_to_end(())  # the beginning is never forgotten
        while len(self._matchers) > KEPT_MATCHERS:
            self._matchers.popitem(last=False)
        return matcher

    def _vocabulary(self, tokenizer: Tokenizer, end_ids: list[int]):
        words = Vocabulary(tokenizer)
        wrapped = self._llguidance.TokenizerWrapper(words)
        return self._llguidance.LLTokenizer(wrapped, eos_token=end_ids or [tokenizer.eos_id])


def reason_of(matcher: Any) -> str:
    """Why it goes no further, in llguidance's words; what it says of its inner state behind them is for its authors."""
    return matcher.get_error().partition("\n<state>")[0].strip()


class Vocabulary:
    """A tokenizer as llguidance wants to see it."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_id
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted(tokenizer.special_ids)
        self.tokens: list[bytes] = [b""] * tokenizer.vocab_size
        """The bytes of every token; a special one has its name."""
        added = tokenizer.backend.get_added_tokens_decoder()
        for text, token in tokenizer.backend.get_vocab(with_added_tokens=True).items():
            self.tokens[token] = text.encode() if token in added else tokenizer.alphabet.bytes_of(text)

    def __call__(self, text: str | bytes) -> list[int]:
        """The tokens of a text."""
        return self._tokenizer.encode(text.decode() if isinstance(text, bytes) else text, continues=True)


def following_schema(schema: str, tokenizer: Tokenizer, *, end_ids: Sequence[int] = ()) -> Constraint:
    """JSON that follows a JSON schema, without free white space.

    Raises:
        ConfigError: not a JSON object, or a schema that llguidance cannot follow.
    """
    llguidance = require("llguidance", extra="grammar", purpose="constrained text")
    try:
        parsed = json.loads(schema)
    except json.JSONDecodeError as error:
        raise ConfigError(f"the JSON schema is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ConfigError("the JSON schema is not a JSON object", hint='the smallest one is {"type": "object"}')
    grammar = llguidance.LLMatcher.grammar_from_json_schema(parsed, overrides=WHITESPACE)
    return Constraint(grammar, tokenizer, what="the JSON schema", end_ids=end_ids)


def following_grammar(
    lark: str, tokenizer: Tokenizer, *, what: str = "the grammar", end_ids: Sequence[int] = ()
) -> Constraint:
    """Text that follows a grammar in llguidance's dialect of Lark.

    Args:
        what: the constraint in the words of the user, for errors.

    Raises:
        ConfigError: not a grammar, or one that llguidance cannot follow.
    """
    llguidance = require("llguidance", extra="grammar", purpose="constrained text")
    return Constraint(llguidance.LLMatcher.grammar_from_lark(lark), tokenizer, what=what, end_ids=end_ids)


def matching(regex: str, tokenizer: Tokenizer, *, end_ids: Sequence[int] = ()) -> Constraint:
    """Text that matches a regular expression (of Rust's syntax) from its beginning to its end.

    Raises:
        ConfigError: not a regular expression.
    """
    llguidance = require("llguidance", extra="grammar", purpose="constrained text")
    grammar = llguidance.LLMatcher.grammar_from_regex(regex)
    return Constraint(grammar, tokenizer, what=f"the regular expression {regex!r}", end_ids=end_ids)


def one_of(choices: Sequence[str], tokenizer: Tokenizer, *, end_ids: Sequence[int] = ()) -> Constraint:
    """One of some texts.

    Raises:
        ConfigError: none, or an empty one.
    """
    if not choices or not all(choices):
        raise ConfigError("a choice needs texts, and none may be empty")
    llguidance = require("llguidance", extra="grammar", purpose="constrained text")
    alternatives = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    grammar = llguidance.LLMatcher.grammar_from_lark(f"start: {alternatives}")
    return Constraint(grammar, tokenizer, what="the choice", end_ids=end_ids)
