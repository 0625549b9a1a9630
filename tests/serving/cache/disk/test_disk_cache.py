"""A server that is started again goes on from the states of the one before; nobody gets those of another salt."""

import asyncio

import pytest
import torch

from mamba_slm.core.errors import SetupError
from mamba_slm.generation.generate import generate
from mamba_slm.serving.cache.disk.disk_cache import DiskCacheSettings
from mamba_slm.serving.cache.disk.stored_state import StoredState
from mamba_slm.serving.cache.prefix_cache import CacheSettings
from mamba_slm.serving.engine.request import EngineRequest
from mamba_slm.serving.engine.thread import Engine
from serving.engines import Engine as Cores
from serving.engines import random_prompts
from small_models import varied_model

MODEL = varied_model(max_context_tokens=160).eval().requires_grad_(False)
(LONG, TAIL) = random_prompts([100, 12], seed=2)


class Life:
    """An engine in its thread from start to stop, over a folder that outlives it."""

    def __init__(self, folder, *, identity="one", max_bytes=2**24, **settings):
        self.cores = Cores(MODEL, **settings)
        self.said = []
        settings = DiskCacheSettings(folder=folder, max_bytes=max_bytes, min_tokens=8)
        self.disk = self.cores.core.keeper.keep_on_disk(settings, identity, say=self.said.append)
        self.said_by_engine = []
        self.engine = Engine(self.cores.core, say=self.said_by_engine.append)

    def __enter__(self):
        self.engine.start()
        return self

    def __exit__(self, *error):
        self.engine.stop()

    def ask(self, prompt, max_new_tokens=4, **settings):
        """Tokens, their logprobs, and how many of the prompt were reused."""

        async def collect():
            request = EngineRequest(prompt=tuple(prompt), max_new_tokens=max_new_tokens, logprobs=0, **settings)
            return [piece async for piece in self.engine.generate(request)]

        pieces = asyncio.run(collect())
        return (
            [piece.token for piece in pieces],
            [piece.logprob.logprob for piece in pieces],
            pieces[-1].usage.cached_tokens,
        )


def alone(prompt, max_new_tokens=4):
    return list(generate(MODEL, [prompt], max_new_tokens=max_new_tokens).completions[0].tokens)


@pytest.mark.parametrize("settings", [{}, {"batch_invariant": True}], ids=str)
def test_the_next_life_goes_on_where_the_last_one_was_with_the_same_logits_to_the_last_bit(tmp_path, settings):
    with Life(tmp_path / "cache", **settings) as first:
        before = first.ask(LONG)
        assert before[2] == 0 and first.disk.counts.restored == 0
    with Life(tmp_path / "cache", **settings) as second:
        after = second.ask(LONG)
        assert after == (*before[:2], len(LONG))
        assert second.disk.counts.restored == 1 and second.disk.counts.restored_tokens == len(LONG)
        assert second.ask(LONG) == after and second.disk.counts.restored == 1  # now it is in memory
        longer = [*LONG, *TAIL]
        tokens, _, cached = second.ask(longer)
        assert tokens == alone(longer) and (cached == len(LONG) or settings)


def test_a_conversation_goes_on_from_the_end_of_the_answer(tmp_path):
    with Life(tmp_path / "cache") as first:
        reply, _, _ = first.ask(LONG, 6)
    with Life(tmp_path / "cache") as second:
        tokens, _, cached = second.ask([*LONG, *reply, *TAIL])
        assert tokens == alone([*LONG, *reply, *TAIL]) and cached == len(LONG) + len(reply) - 1


def test_ends_of_prompts_and_messages_are_written_and_the_grid_is_not(tmp_path):
    with Life(tmp_path / "cache", cache=CacheSettings(every=8, min_tokens=4)) as life:
        life.ask(LONG, 1, boundaries=(24, 50))
    assert life.disk.files.lengths == [24, 50, 100]
    assert life.disk.counts.written == 3


def test_states_of_one_salt_or_adapter_are_of_no_use_to_another(tmp_path):
    with Life(tmp_path / "cache") as first:
        first.ask(LONG, salt="a")
    with Life(tmp_path / "cache") as second:
        asked = ({"salt": "b"}, {}, {"salt": "a", "use_cache": False}, {"salt": "a"})
        assert [second.ask(LONG, **settings)[2] for settings in asked] == [0, 0, 0, 100]
        assert second.disk.counts.restored == 1 and second.disk.counts.refused == 0


def test_an_entry_that_was_moved_to_another_salt_is_refused(tmp_path):
    with Life(tmp_path / "cache") as first:
        first.ask(LONG, 1, salt="a")
    (theirs,) = (tmp_path / "cache" / "one").glob("100-*")
    with Life(tmp_path / "cache") as second:
        expected = second.ask(LONG, 1, salt="b")
    (mine,) = set((tmp_path / "cache" / "one").glob("100-*")) - {theirs}
    mine.write_bytes(theirs.read_bytes())
    with Life(tmp_path / "cache") as third:
        assert third.ask(LONG, 1, salt="b") == expected and third.disk.counts.refused == 1
        assert "refused and deleted" in third.said[0]


def test_files_do_not_tell_the_prompt_nor_the_salt(tmp_path):
    with Life(tmp_path / "cache") as life:
        life.ask(LONG, salt="a very secret salt")
    stored = torch.tensor(LONG[:8], dtype=torch.int64).numpy()
    contents = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    needles = [b"secret salt", *(stored.astype(kind).tobytes() for kind in ("<i8", "<i4", "<i2"))]
    assert len(contents) == 3 and not any(needle in content for content in contents for needle in needles)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_state_is_refused_deleted_and_made_again(tmp_path, damage):
    with Life(tmp_path / "cache") as first:
        expected = first.ask(LONG, 1)
    (path,) = (tmp_path / "cache" / "one").glob("100-*")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes({"cut": bytes(data[:-100]), "changed": bytes(data), "empty": b""}[damage])
    with Life(tmp_path / "cache") as second:
        assert second.ask(LONG, 1) == expected and second.disk.counts.refused == 1
        assert "refused and deleted" in second.said[0]
    with Life(tmp_path / "cache") as third:
        assert third.ask(LONG, 1) == (*expected[:2], len(LONG))


def test_states_of_another_model_precision_or_tokenizer_are_not_looked_at(tmp_path):
    with Life(tmp_path / "cache") as first:
        first.ask(LONG)
    with Life(tmp_path / "cache", identity="two") as second:
        assert second.ask(LONG)[2] == 0 and second.disk.counts.refused == 0


def test_a_disk_that_cannot_be_written_is_told_once_and_stops_nobody(tmp_path):
    with Life(tmp_path / "cache") as life:
        (tmp_path / "cache" / "one").rmdir()
        assert life.ask(LONG)[0] == alone(LONG)
        assert life.ask([*LONG[:60], *TAIL])[0] == alone([*LONG[:60], *TAIL])
    assert life.disk.counts.dropped >= 2 and life.disk.counts.written == 0
    assert len(life.said) == 1 and "cannot be written" in life.said[0]


def test_who_reads_a_state_while_the_engine_stops_is_told(tmp_path):
    with Life(tmp_path / "cache") as first:
        first.ask(LONG)
    with Life(tmp_path / "cache") as second:
        read = second.disk.read

        def read_and_stop(candidate):
            second.engine.stop()
            return read(candidate)

        second.disk.read = read_and_stop
        with pytest.raises(SetupError, match="was shut down"):
            second.ask(LONG)


def test_the_folder_stays_within_its_bytes(tmp_path):
    with Life(tmp_path / "size") as one:
        one.ask(LONG, 1)
    size = one.disk.files.num_bytes
    with Life(tmp_path / "cache", max_bytes=3 * size) as life:
        for prompt in random_prompts([100] * 6, seed=9):
            life.ask(prompt, 1)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "cache" / "one").iterdir())
    assert on_disk == life.disk.files.num_bytes <= 3 * size and life.disk.files.evicted >= 3


def test_a_state_that_finds_no_memory_costs_a_reading_and_neither_the_server_nor_blocks(tmp_path):
    with Life(tmp_path / "cache") as first:
        first.ask(LONG)
    with Life(tmp_path / "cache") as second:
        second.disk.read = lambda candidate: StoredState(num_tokens=len(candidate.tokens), tensors={})
        tokens, _, cached = second.ask(LONG)
        assert (tokens, cached) == (alone(LONG), 0) and "KeyError" in second.said_by_engine[0]
        assert second.ask(TAIL)[0] == alone(TAIL)
    core = second.cores.core
    core.cache.clear()
    assert core.kv_usage == 0 and second.cores.pool.blocks.num_free == core.num_blocks
