"""Promises of ONNX Runtime behind the decode loop: what PyTorch says, it says, in every way of calling it."""

import json
import shutil

import pytest
import torch

from mamba_slm.core.errors import ConfigError, DataError, SetupError, UsageError
from mamba_slm.generation import prefill as loop
from mamba_slm.generation.conversation.reply_settings import ReplySettings
from mamba_slm.generation.conversation.session import ChatSession
from mamba_slm.generation.conversation.turns import Continuation
from mamba_slm.generation.generate import generate, stream_tokens
from mamba_slm.generation.loading import RuntimeSettings, load
from mamba_slm.generation.onnx_runtime import OnnxRuntime, open_onnx
from mamba_slm.generation.onnx_session import choose_provider
from mamba_slm.generation.onnx_state import KeptStates, RenewedStates
from mamba_slm.generation.runtime import TorchRuntime
from mamba_slm.generation.sampling import Sampler
from mamba_slm.generation.strategies.beam import BeamSearch
from mamba_slm.generation.strategies.best_of import BestOf
from mamba_slm.generation.strategies.contrastive import ContrastiveSearch
from mamba_slm.generation.strategies.separate import Separate
from onnx_folders import save_onnx, save_small_onnx_model
from small_models import save_small_model, small_tokenizer, varied_model
from tolerances import assert_close, tolerance_of

CONTEXT = 48
PROMPTS = [[1, 5, 9, 3], [2], [7, 7, 8, 1, 4, 4, 6, 30, 2, 11, 12]]
SETTINGS = RuntimeSettings(threads=1)
WAYS = {"fused in place": ("fused", KeptStates), "fused": ("fused", RenewedStates), "portable": ("portable", None)}


@pytest.fixture(scope="module")
def model():
    return varied_model(vocab_size=40, max_context_tokens=CONTEXT)


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("onnx")
    return {form: save_onnx(model, root / form, form=form) for form in ("fused", "portable")}


@pytest.fixture(params=WAYS)
def runtime(request, folders):
    form, states = WAYS[request.param]
    runtime = open_onnx(folders[form], SETTINGS).runtime
    assert isinstance(runtime, OnnxRuntime)
    runtime.states = states or runtime.states
    return runtime


@pytest.fixture
def kept(folders):
    return open_onnx(folders["fused"], SETTINGS).runtime


def logits_of(runtime, pieces, state):
    """Logits [b v] after each of (tokens, mask)."""
    return [
        runtime.next_logits(torch.tensor(tokens), None if mask is None else torch.tensor(mask), state)
        for tokens, mask in pieces
    ]


def allowed():
    return tolerance_of("oracle").values


def test_the_fused_graph_is_run_in_place_and_the_portable_one_is_not(folders):
    assert open_onnx(folders["fused"], SETTINGS).runtime.states is KeptStates
    assert open_onnx(folders["portable"], SETTINGS).runtime.states is RenewedStates


def test_greedy_tokens_and_reasons_are_those_of_torch(model, runtime):
    eos = generate(model, PROMPTS, max_new_tokens=10).completions[0].tokens[3]
    for settings in ({"max_new_tokens": 20}, {"max_new_tokens": 20, "eos_id": eos}, {"max_new_tokens": 100}):
        assert generate(runtime, PROMPTS, **settings).completions == generate(model, PROMPTS, **settings).completions


def test_samples_of_the_same_seed_are_those_of_torch(model, runtime):
    settings = {
        "max_new_tokens": 12,
        "sampler": Sampler.from_settings(temperature=1.0, top_p=0.9, repetition_penalty=1.1),
        "seed": 5,
        "samples_per_prompt": 2,
    }
    assert generate(runtime, PROMPTS, **settings).completions == generate(model, PROMPTS, **settings).completions


def test_beams_and_the_best_draws_are_those_of_torch(model, runtime):
    drawing = {"max_new_tokens": 8, "samples_per_prompt": 2, "seed": 5}
    for settings in (
        {"strategy": BeamSearch(beams=3)},
        {"strategy": BestOf(draws=3), "sampler": Sampler.from_settings(temperature=1.0)},
        {"strategy": Separate(strategy=BeamSearch(beams=3))},
    ):
        expected = generate(model, PROMPTS, **drawing, **settings).completions
        found = generate(runtime, PROMPTS, **drawing, **settings).completions
        assert [row.tokens for row in found] == [row.tokens for row in expected]
    with pytest.raises(ConfigError, match=r"hidden states, which .*onnx"):
        generate(runtime, PROMPTS, max_new_tokens=2, strategy=ContrastiveSearch())


def test_rows_in_a_batch_return_what_they_return_alone(runtime):
    together = generate(runtime, PROMPTS, max_new_tokens=30).completions
    alone = [generate(runtime, [prompt], max_new_tokens=30).completions[0] for prompt in PROMPTS]
    assert list(together) == alone


@pytest.mark.parametrize("piece_tokens", [1, 3, 8])
def test_a_batch_may_be_prefilled_in_pieces_in_which_some_rows_have_ended(runtime, monkeypatch, piece_tokens):
    whole = generate(runtime, PROMPTS, max_new_tokens=6).completions
    monkeypatch.setattr(loop, "PREFILL_PIECE_TOKENS", piece_tokens)
    assert generate(runtime, PROMPTS, max_new_tokens=6).completions == whole


def test_every_piece_gives_the_logits_of_torch(model, runtime):
    pieces = [
        ([[3, 4, 5], [6, 7, 0]], [[True] * 3, [True, True, False]]),
        ([[8, 0], [9, 1]], [[True, False], [True, True]]),
        ([[2], [3]], None),
        ([[4, 5], [0, 0]], [[True, True], [False, False]]),
        ([[6], [7]], None),
    ]
    torch_runtime = TorchRuntime(model)
    ours, theirs = runtime.new_state(2), torch_runtime.new_state(2)
    both = zip(logits_of(runtime, pieces, ours), logits_of(torch_runtime, pieces, theirs), strict=True)
    for number, (actual, expected) in enumerate(both):
        rows = slice(1) if number == 3 else slice(2)  # a row without a token has no meaning
        assert_close(actual[rows], expected[rows], allowed(), f"piece {number}")
    assert ours.num_tokens.tolist() == theirs.num_tokens.tolist() == [8, 6]


def test_logits_stay_as_they_were_returned(runtime):
    state = runtime.new_state(1)
    first = runtime.next_logits(torch.tensor([[1, 2]]), None, state)
    copy = first.clone()
    runtime.next_logits(torch.tensor([[3]]), None, state)
    assert torch.equal(first, copy)


def test_the_memory_grows_with_the_context(model, monkeypatch, kept):
    monkeypatch.setattr("mamba_slm.generation.onnx_state.FIRST_CAPACITY", 4)
    settings = {"max_new_tokens": 30}
    assert generate(kept, PROMPTS, **settings).completions == generate(model, PROMPTS, **settings).completions


def test_a_state_can_be_copied_put_back_and_forked(runtime):
    state = runtime.new_state(2)
    runtime.next_logits(torch.tensor([[3, 4, 5], [6, 7, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool(), state)
    snapshot = state.snapshot()
    after = [runtime.next_logits(torch.tensor([[8], [9]]), None, state) for _ in range(2)]
    assert state.num_tokens.tolist() == [5, 4]
    for _ in range(2):  # the snapshot stays usable
        state.restore(snapshot)
        assert state.num_tokens.tolist() == snapshot.num_tokens.tolist() == [3, 2]
        for expected in after:
            assert_close(runtime.next_logits(torch.tensor([[8], [9]]), None, state), expected, allowed())
    forked = snapshot.fork(2)
    forked_logits = runtime.next_logits(torch.tensor([[8], [8], [9], [9]]), None, forked)
    assert_close(forked_logits, after[0].repeat_interleave(2, dim=0), allowed())
    chosen = snapshot.select(torch.tensor([1]))
    assert_close(runtime.next_logits(torch.tensor([[9]]), None, chosen), after[0][1:], allowed())
    with pytest.raises(UsageError, match="the snapshot has 1 rows, the state has 2"):
        state.restore(chosen)


def test_a_state_carries_a_sequence_from_one_stream_to_the_next(runtime):
    whole = generate(runtime, [PROMPTS[2]], max_new_tokens=9).completions[0].tokens
    state = runtime.new_state(1)
    first = [event.token for event in stream_tokens(runtime, [PROMPTS[2]], max_new_tokens=4, state=state)]
    second = stream_tokens(runtime, [first[-1:]], max_new_tokens=5, state=state)
    assert tuple(first + [event.token for event in second]) == whole


def test_what_is_too_long_is_refused(runtime):
    with pytest.raises(ConfigError, match="leaves no room in the model's context of 48 tokens"):
        generate(runtime, [[3] * CONTEXT], max_new_tokens=1)
    state = runtime.new_state(1)
    runtime.next_logits(torch.full((1, CONTEXT), 3), None, state)
    with pytest.raises(ConfigError, match="49 tokens do not fit into the model's context of 48"):
        runtime.next_logits(torch.tensor([[3]]), None, state)


def test_a_conversation_is_that_of_torch(tmp_path):
    folder = save_small_onnx_model(tmp_path / "small", max_context_tokens=120)
    tokenizer = small_tokenizer()
    settings = ReplySettings(temperature=1.5, top_p=None, max_new_tokens=8, seed=3, stops=("q",))
    loaded = load(folder, settings=SETTINGS)
    assert loaded.runtime.description.startswith("onnxruntime ")
    models = (loaded.runtime, varied_model(max_context_tokens=120))
    sessions = [ChatSession(model, tokenizer, Continuation(tokenizer), settings) for model in models]
    for line in ("def f(x):", "return x", "class A:"):
        replies = ["".join(session.respond(line)) for session in sessions]
        assert replies[0] == replies[1]
    assert sessions[0].used_tokens == sessions[1].used_tokens


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantized_weights_follow_the_same_rules(model, tmp_path, weights):
    runtime = open_onnx(save_onnx(model, tmp_path / weights, weights=weights), SETTINGS).runtime
    assert f"{weights} weights" in runtime.description
    together = generate(runtime, PROMPTS, max_new_tokens=8).completions
    assert list(together) == [generate(runtime, [prompt], max_new_tokens=8).completions[0] for prompt in PROMPTS]


def test_an_absent_provider_is_refused_with_those_that_are_there(folders):
    with pytest.raises(SetupError, match=r"no execution provider 'cuda' here; it has .*cpu") as caught:
        open_onnx(folders["fused"], RuntimeSettings(provider="cuda"))
    assert "onnxruntime-gpu" in caught.value.hint
    with pytest.raises(SetupError, match="no execution provider 'abacus'"):
        open_onnx(folders["fused"], RuntimeSettings(provider="abacus"))
    assert choose_provider(None) == choose_provider("CPU") == choose_provider("CPUExecutionProvider")


def test_a_folder_for_one_runtime_is_refused_by_the_other_with_the_way_out(folders, tmp_path):
    folder = save_small_model(tmp_path / "small")
    with pytest.raises(UsageError, match="is a model for PyTorch") as caught:
        load(folder, runtime="onnx")
    assert caught.value.hint.startswith(f"mamba-slm export onnx {folder} --out ")
    with pytest.raises(UsageError, match="for ONNX Runtime, not for PyTorch") as caught:
        load(folders["fused"], runtime="torch")
    assert "--runtime onnx" in caught.value.hint
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nothing", runtime="onnx")
    with pytest.raises(ConfigError, match="choice of PyTorch"):
        load(folders["fused"], settings=RuntimeSettings(device="cuda"))
    with pytest.raises(ConfigError, match="int8 are a choice of PyTorch"):
        load(folders["fused"], settings=RuntimeSettings(weights="int8"))
    with pytest.raises(ConfigError, match="choice of ONNX Runtime"):
        load(folder, settings=RuntimeSettings(provider="cpu"))


def test_a_damaged_folder_is_named(folders, tmp_path):
    cut = shutil.copytree(folders["fused"], tmp_path / "cut")
    (graph,) = cut.rglob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cannot load .*\.onnx"):
        open_onnx(cut, SETTINGS)
    graph.unlink()
    with pytest.raises(DataError, match="is missing"):
        open_onnx(cut, SETTINGS)

    mixed = shutil.copytree(folders["fused"], tmp_path / "mixed")
    contract = next(mixed.glob("*.json"))
    stored = json.loads(contract.read_text())
    stored["config"]["pattern"] = "M-*-"
    contract.write_text(json.dumps(stored))
    with pytest.raises(DataError, match="is not a graph of its folder's model"):
        open_onnx(mixed, SETTINGS)
