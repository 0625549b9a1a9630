"""How likely a model finds continuations, with every shared beginning read once.

Sequences become a `prefix_tree`. Nodes are read in batches of similar length; the inference state after a node is
forked into its children, so a question is read once for all its choices and few-shot examples once for all questions.
The order of the requests changes nothing, not even rounding: batches follow from the set of sequences.

Letters: `b` rows, `t` time, `d` width, `v` vocabulary, `n` wanted tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.evaluation.harness.prefix_tree import Node, prefix_tree
from mamba_slm.evaluation.results import TokenCount
from mamba_slm.generation.prefill import right_padded
from mamba_slm.model.stack import LanguageModel
from mamba_slm.model.state import InferenceState

BATCH_TOKENS = 4096  # padding included; bounds the memory of activations, larger batches are no faster
MOST_ROWS = 64
STATE_BYTES = 2**30  # of the states of one batch; a tree of several levels holds as many of them
LOGITS = 2**24  # numbers held at once


@dataclass(frozen=True)
class Request:
    """Score `continuation` after `context`; both have at least one token."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """What the model says of a continuation."""

    logprob: float
    """Natural logarithm of its probability."""
    is_greedy: bool
    """Whether each of its tokens was the likeliest."""


@dataclass
class Wanted:
    """A token whose probability is asked for: what `node` predicts behind its token `offset`."""

    offset: int
    token: int
    request: int


@dataclass
class Sheet:
    """Requests while they are answered; those that ask the same are one."""

    missing: list[int]
    """Tokens of each request that were not scored yet."""
    logprobs: list[float]
    greedy: list[bool]
    wanted: dict[Node, list[Wanted]] = field(default_factory=dict)


def model_input(request: Request, max_tokens: int) -> tuple[int, ...]:
    """What is read: all but the last token, cut at the left to `max_tokens` as lm-evaluation-harness does.

    Raises:
        ConfigError: the continuation alone is longer.
        DataError: there is no continuation.
    """
    if not request.continuation:
        raise DataError("a choice has no tokens", hint="the local copy of the questions may be damaged")
    if len(request.continuation) > max_tokens:
        raise ConfigError(
            f"a continuation of {len(request.continuation)} tokens does not fit into the context of {max_tokens}",
            hint="leave the task out, or use a model with a longer context",
        )
    return (request.context + request.continuation)[-(max_tokens + 1) :][:-1]


class Scorer:
    """Answers requests with one model."""

    def __init__(self, model: LanguageModel, *, max_tokens: int | None = None):
        self.model = model
        self.max_tokens = max_tokens or model.config.max_context_tokens
        state = model.new_state(1)
        self.most_rows = max(4, min(MOST_ROWS, STATE_BYTES // max(1, state.num_bytes)))
        self.computed_tokens = 0
        self.plain_tokens = 0

    @property
    def tokens(self) -> TokenCount:
        """How much was read so far."""
        return TokenCount(computed=self.computed_tokens, plain=self.plain_tokens)

    @torch.no_grad()
    def score(
        self, requests: Sequence[Request], on_answer: Callable[[int, Answer], None] = lambda number, answer: None
    ) -> list[Answer]:
        """Answer every request, in their order.

        Args:
            on_answer: told the number of each request with its answer as soon as it is known.

        Raises:
            ConfigError: a continuation is longer than the context.
        """
        asked = list(dict.fromkeys(requests))
        inputs = [model_input(request, self.max_tokens) for request in asked]
        lengths = dict(zip(asked, map(len, inputs), strict=True))
        self.plain_tokens += sum(lengths[request] for request in requests)
        numbers: dict[Request, list[int]] = {}
        for number, request in enumerate(requests):
            numbers.setdefault(request, []).append(number)
        tree = prefix_tree(inputs)
        sheet = Sheet([len(one.continuation) for one in asked], [0.0] * len(asked), [True] * len(asked))
        for index, (request, path) in enumerate(zip(asked, tree.paths, strict=True)):
            write_wanted(sheet, index, request, path)
        answers: list[Answer | None] = [None] * len(requests)

        def answered(index: int) -> None:
            answer = Answer(sheet.logprobs[index], sheet.greedy[index])
            for number in numbers[asked[index]]:
                answers[number] = answer
                on_answer(number, answer)

        self.read(tree.roots, None, {}, sheet, answered)
        return [answer for answer in answers if answer is not None]

    def read(
        self,
        nodes: Sequence[Node],
        before: InferenceState | None,
        rows: dict[Node, int],
        sheet: Sheet,
        answered: Callable[[int], None],
    ) -> None:
        """Read nodes and all below them.

        Args:
            before: the state after the nodes above, None for roots.
            rows: the row in `before` of the node above each.
        """
        for batch in batches(nodes, self.most_rows):
            children = [child for node in batch for child in node.children]
            state = None
            if before is not None:
                state = before.select(torch.tensor([rows[node] for node in batch], device=before.num_tokens.device))
            elif children:
                state = self.model.new_state(len(batch))
            tokens, mask = right_padded([node.tokens for node in batch], device=self.model.embedding.weight.device)
            hidden = self.model.hidden_states(tokens, padding_mask=None if bool(mask.all()) else mask, state=state)
            self.computed_tokens += sum(len(node.tokens) for node in batch)
            for index in self.look_up(batch, hidden, sheet):
                answered(index)
            del hidden
            if children:
                above = {child: row for row, node in enumerate(batch) for child in node.children}
                self.read(children, state, above, sheet, answered)

    def look_up(self, batch: Sequence[Node], hidden: Tensor, sheet: Sheet) -> list[int]:
        """Score what is wanted of the nodes in `hidden` [b t d]; the requests that are complete now."""
        asked = [(row, one) for row, node in enumerate(batch) for one in sheet.wanted.pop(node, ())]
        places = sorted({(row, one.offset) for row, one in asked})
        found: dict[tuple[int, int, int], tuple[float, bool]] = {}
        targets: dict[tuple[int, int], set[int]] = {}
        for row, one in asked:
            targets.setdefault((row, one.offset), set()).add(one.token)
        step = max(1, LOGITS // self.model.config.vocab_size)
        for start in range(0, len(places), step):
            piece = places[start : start + step]
            pairs = [(i, place, token) for i, place in enumerate(piece) for token in sorted(targets[place])]
            at = torch.tensor(piece, device=hidden.device)  # [n 2]
            logits = self.model.logits(hidden[at[:, 0], at[:, 1]])  # [n v]
            best = logits.argmax(dim=-1).tolist()
            which = torch.tensor([(i, token) for i, _, token in pairs], device=hidden.device)
            values = logits.log_softmax(dim=-1)[which[:, 0], which[:, 1]].tolist()
            for (i, place, token), value in zip(pairs, values, strict=True):
                found[(*place, token)] = (value, best[i] == token)
        complete: list[int] = []
        for row, one in asked:
            value, is_best = found[row, one.offset, one.token]
            sheet.logprobs[one.request] += value
            sheet.greedy[one.request] &= is_best
            sheet.missing[one.request] -= 1
            if not sheet.missing[one.request]:
                complete.append(one.request)
        return complete


def write_wanted(sheet: Sheet, index: int, request: Request, path: Sequence[Node]) -> None:
    """Note which nodes predict the tokens of a continuation."""
    position = path[-1].end - len(request.continuation)  # that predicts the first of them
    nodes = iter(path)
    node = next(nodes)
    for token in request.continuation:
        while position >= node.end:
            node = next(nodes)
        sheet.wanted.setdefault(node, []).append(Wanted(position - node.start, token, index))
        position += 1


def batches(nodes: Sequence[Node], most_rows: int) -> list[list[Node]]:
    """Nodes of similar length together, the longest first so that a lack of memory shows at once."""
    found: list[list[Node]] = []
    for node in sorted(nodes, key=lambda node: (-len(node.tokens), node.tokens)):
        longest = len(found[-1][0].tokens) if found else 0
        if not found or len(found[-1]) == most_rows or longest * (len(found[-1]) + 1) > BATCH_TOKENS:
            found.append([])
        found[-1].append(node)
    return found
