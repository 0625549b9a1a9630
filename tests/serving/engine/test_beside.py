"""Reading texts beside the requests of an engine."""

import asyncio
from collections.abc import Callable

import pytest
import torch

from mamba_slm.core.errors import ConfigError
from mamba_slm.serving.engine.beside import Pooling, Reader
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.serving.engine.thread import Engine
from serving.engines import Engine as Cores
from serving.engines import random_prompts
from small_models import varied_model

MODEL = varied_model(max_context_tokens=256).eval().requires_grad_(False)
TEXTS = random_prompts([1, 90, 7, 63, 100, 8])


@pytest.fixture
def engine():
    engine = Engine(Cores(MODEL).core)
    engine.start()
    yield engine
    engine.stop()


@torch.no_grad()
def hidden_of(text):
    return MODEL.hidden_states(torch.tensor([text]))[0]


@pytest.mark.parametrize("piece_tokens", [9, 4096])
def test_embeddings_are_those_of_each_text_read_alone(engine, piece_tokens):
    reader = Reader(MODEL, piece_tokens=piece_tokens)
    ways: dict[Pooling, Callable] = {"mean": lambda hidden: hidden.mean(dim=0), "last": lambda hidden: hidden[-1]}
    for pooling, pooled in ways.items():
        found = asyncio.run(reader.embeddings(engine, TEXTS, pooling=pooling))
        expected = torch.stack([pooled(hidden_of(text)) for text in TEXTS])
        torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("piece_tokens", [7, 4096])
def test_likelihoods_of_a_prompt_are_those_of_the_model(engine, piece_tokens):
    text = TEXTS[1]
    read = asyncio.run(Reader(MODEL, piece_tokens=piece_tokens).likelihoods(engine, text, top=2))
    expected = MODEL.logits(hidden_of(text)).log_softmax(dim=-1)
    assert read[0].logprob is None and [one.token for one in read] == text
    for place, one in enumerate(read[1:]):
        assert one.logprob is not None and one.logprob.logprob == pytest.approx(
            float(expected[place, one.token]), abs=1e-4
        )
        assert one.top[0].token == int(expected[place].argmax()) and len(one.top) == 2


def test_requests_go_on_between_the_pieces(engine):
    async def both():
        request = EngineRequest(prompt=(5, 6), max_new_tokens=250)
        pieces = engine.generate(request)
        await anext(pieces)
        reading = asyncio.ensure_future(Reader(MODEL, piece_tokens=4).embeddings(engine, [TEXTS[4]], pooling="mean"))
        made = 0
        while not reading.done():
            async for _ in pieces:
                made += 1
                if reading.done():
                    break
            else:  # a busy machine wakes the reader so late that all tokens are made before: ask again
                pieces = engine.generate(request)
        await pieces.aclose()
        return made

    assert asyncio.run(both()) > 10  # a step of the request for every piece of the text


def test_texts_that_cannot_be_read_are_named(engine):
    reader = Reader(MODEL)
    for texts, words in (([[5], []], "input 2 has no tokens"), ([[999]], "token 999"), ([[5] * 257], "context of 256")):
        with pytest.raises(ConfigError, match=words):
            asyncio.run(reader.embeddings(engine, texts, pooling="mean"))


def test_what_goes_wrong_between_steps_harms_no_request(engine):
    def fail():
        raise ValueError("no")

    async def ask():
        with pytest.raises(ValueError, match="no"):
            await engine.between_steps(fail)
        return [piece async for piece in engine.generate(EngineRequest(prompt=(5,), max_new_tokens=3))]

    assert len(asyncio.run(ask())) == 3


def test_however_many_ask_at_once_the_states_of_one_batch_are_in_memory(engine):
    class Counting(Reader):
        now = most = 0

        async def _read(self, engine, rows):
            self.now += 1
            self.most = max(self.most, self.now)
            async for piece in super()._read(engine, rows):
                yield piece
            self.now -= 1

    reader = Counting(MODEL, piece_tokens=9)

    async def ask_all():
        embeddings = (reader.embeddings(engine, TEXTS, pooling="last") for _ in range(5))
        likelihoods = asyncio.ensure_future(reader.likelihoods(engine, TEXTS[1], top=0))
        return await asyncio.gather(*embeddings), await likelihoods

    found, read = asyncio.run(ask_all())
    assert reader.most == 1 and len(read) == len(TEXTS[1])
    assert all(torch.equal(one, found[0]) for one in found)
