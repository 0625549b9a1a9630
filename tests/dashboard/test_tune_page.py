"""The form of a further training gives the command of a terminal, and says what it reaches, takes and learns."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest

from dashboard.made_pairs import conversations, pairs_to_rate
from dashboard.made_runs import client_of, make_run, parse
from mamba_slm.cli.dashboard_examples import example_of_tuning, pieces_of
from mamba_slm.cli.dashboard_tuning import plan_of_tuning
from mamba_slm.cli.dashboard_tuning_data import LOOKED_AT
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.forms_tune import OBJECTIVES, TuneForm
from mamba_slm.dashboard.reading.base_model import base_model
from mamba_slm.runs.jobs import list_jobs
from mamba_slm.runs.preferences.rows import Rating
from small_models import save_small_model

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    save_small_model(folder, max_context_tokens=256)
    return folder


@pytest.fixture
def talk(tmp_path):
    return conversations(tmp_path / "my talk.jsonl")


def plan(home, **form):
    return client_of(home).post("/api/tune/plan", json=form, headers=OWN).json()


def test_the_command_shown_means_the_settings_typed(tmp_path, model, talk):
    from mamba_slm.cli.finetune import settings_of

    found = plan(
        tmp_path, model=str(model), data=f"{talk}\n\n", method="qlora", rank="4", epochs="3", learning_rate="1e-3",
        batch="256", context_tokens="64", train_on="all", name="mine", more="--schedule wsd --merge", beta="0.5",
    )  # fmt: skip
    assert found["problem"] is None
    words = shlex.split(found["command"])
    config, _ = settings_of(parse(words[1:]), None)
    assert (config.model, config.data, config.method, config.rank) == (str(model), (str(talk),), "qlora", 4)
    assert (config.epochs, config.learning_rate, config.batch_tokens) == (3, 1e-3, 256)
    assert (config.train_on, config.context_tokens, config.schedule, config.merge) == ("all", 64, "wsd", True)
    assert words[-2:] == ["--out", str(tmp_path / "mine")]
    assert shlex.split(found["dry_run"]) == [*words[:-2], "--dry-run", "--mask-check"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_has_its_command(tmp_path, objective):
    from mamba_slm.cli.align import settings_of

    form = TuneForm.of(
        {"task": objective, "model": "runs/a", "data": "prefs:talk", "batch": "8", "reward": "math\nlength=9",
         "train_on": "all", "rank": "4", "targets": "in_proj"}
    )  # fmt: skip
    config, _ = settings_of(parse(form.words()), None)
    assert (config.objective, config.model, config.data, config.batch_examples) == (
        objective,
        "runs/a",
        ("prefs:talk",),
        8,
    )
    assert config.reward == (("math", "length=9") if objective == "grpo" else ())
    assert form.folder(tmp_path).name.endswith(objective)
    parse([*form.words(), *form.dry_flags()])


def test_without_a_method_for_adapters_their_settings_are_left_out():
    words = TuneForm.of({"method": "full", "model": "m", "data": "d", "rank": "4"}).words()
    assert "--rank" not in words and words[-2:] == ["--method", "full"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_steps_memory_and_rate_are_those_of_the_dry_run(tmp_path, model, talk, method, capsys):
    from mamba_slm.cli.main import main

    words = ["finetune", str(model), "--data", str(talk), "--method", method, "--device", "cpu", "--batch-tokens=64"]
    words += ["--context-tokens", "64"]
    found = plan_of_tuning(words)
    assert main([*words, "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert found["problem"] is None
    assert found["steps"] == said["plan"]["steps"]
    assert sum(found["memory"].values()) == pytest.approx(said["memory_bytes"])
    assert found["learning_rate"][0] == pytest.approx(said["learning_rate"])
    assert (found["parameters"], found["pattern"]) == (said["parameters"], said["model"]["pattern"])
    assert found["data"]["total"] == found["data"]["read"] == 24


def test_the_mask_shown_is_the_mask_given_to_the_loss(model, talk):
    from mamba_slm.core.config import resolve
    from mamba_slm.finetuning.collate import padded_collator
    from mamba_slm.finetuning.config import FinetuneConfig
    from mamba_slm.finetuning.prepared import prepare_examples

    words = ["finetune", str(model), "--data", str(talk)]
    config, _ = resolve(FinetuneConfig, [("test", {"model": str(model), "data": (str(talk),)})])
    prepared = prepare_examples(
        config, model, max_context_tokens=base_model(model).config.max_context_tokens, say=print
    )
    assert len(prepared.train.examples) > 3
    for number, example in enumerate(prepared.train.examples):
        shown = example_of_tuning(words, number)
        (part,) = shown["parts"]
        mask = [learned for _, tokens, learned in part["pieces"] for _ in range(tokens)]
        labels = padded_collator(prepared.template.tokenizer.pad_id)([example])["labels"][0].tolist()
        assert mask == [label != -100 for label in labels[: len(mask)]]
        assert len(mask) == len(example.tokens) and any(mask)
        learned = "".join(text for text, _, is_learned in part["pieces"] if is_learned)
        assert learned.startswith("Home.") and "fox" not in learned


def test_characters_of_several_tokens_are_shown_whole(model):
    from mamba_slm.finetuning.examples import EncodedExample
    from mamba_slm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(model)
    text = "é漢 🦊 fox"
    tokens = tuple(tokenizer.encode(text))
    pieces = pieces_of(EncodedExample(tokens, (False, *[True] * (len(tokens) - 1)), "here"), tokenizer)
    assert "".join(piece[0] for piece in pieces[1:]).endswith("漢 🦊 fox")
    assert sum(piece[1] for piece in pieces) == len(tokens)


def test_what_adapters_reach_is_counted_by_layer_and_matrix(model, talk):
    words = ["finetune", str(model), "--data", str(talk), "--rank", "2", "--targets", "in_proj,q_proj"]
    found = plan_of_tuning(words)
    pattern, coverage = found["pattern"], found["coverage"]
    assert coverage["sublayers"] == [kind in "M*" for kind in pattern]
    assert {part["part"]: part["matrices"] for part in coverage["parts"]} == {
        "in_proj": pattern.count("M"), "q_proj": pattern.count("*")
    }  # fmt: skip
    assert found["trained"] == sum(part["parameters"] for part in coverage["parts"]) < found["parameters"]


def test_long_data_are_looked_at_in_part_and_counted_in_full(tmp_path, model):
    file = conversations(tmp_path / "long.jsonl", count=3 * LOOKED_AT)
    words = ["finetune", str(model), "--data", str(file), "--batch-tokens", "64", "--context-tokens", "64"]
    found = plan_of_tuning(words)
    assert (found["data"]["read"], found["data"]["total"]) == (LOOKED_AT, 3 * LOOKED_AT)
    assert "first 200" in found["how"]
    part = plan_of_tuning([*words, "--limit", str(LOOKED_AT)])
    assert found["steps"] == pytest.approx(3 * part["steps"], rel=0.05)


def test_pairs_are_shown_as_what_was_chosen_and_rejected(tmp_path, model, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_HOME", str(tmp_path))
    preferences = pairs_to_rate(tmp_path)
    words = ["align", str(model), "dpo", "--data", "prefs:foxes", "--batch-examples", "4"]
    assert "foxes" in str(plan_of_tuning(words)["problem"]), "nothing is rated yet"
    preferences.add_ratings(
        Rating(id=str(i), pair=pair.id, rater="me", choice="left", swapped=False)
        for i, pair in enumerate(preferences.pairs())
    )
    found = plan_of_tuning(words)
    assert (found["problem"], found["data"]["total"], found["steps"]) == (None, 24, 6)
    titles = [(part["title"], part["text"].split(" ")[0]) for part in example_of_tuning(words, 3)["parts"]]
    assert titles == [("user", "Where"), ("chosen", "Home,"), ("rejected", "Foxes")]
    labels = {
        part["title"]
        for n in (0, 1)
        for part in example_of_tuning(["align", str(model), "kto", "--data", "prefs:foxes"], n)["parts"]
    }
    assert labels == {"user", "good", "bad"}


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"model": ""}, "the model is missing"),
        ({"model": "no/such"}, "does not exist"),
        ({"model": "--out"}, "option"),
        ({"data": ""}, "nothing to learn from"),
        ({"data": "no-such.jsonl"}, "no-such.jsonl"),
        ({"data": "prefs:nobody", "task": "dpo"}, "unknown set"),
        ({"rank": "0"}, "rank must be"),
        ({"targets": "in_prj"}, "in_prj"),
        ({"context_tokens": "9999999"}, "context"),
        ({"more": "--out elsewhere"}, "not for this form"),
        ({"more": "--dry-run"}, "not for this form"),
        ({"more": "'open"}, "quote"),
        ({"name": "../elsewhere"}, "not a usable run name"),
        ({"task": "reward", "method": "qlora"}, "lora"),
        ({"task": "kto", "beta": "-1"}, "beta"),
    ],
)
def test_what_the_command_would_refuse_is_said_while_typing(tmp_path, model, talk, form, said):
    assert said in plan(tmp_path, **{"model": str(model), "data": str(talk), **form})["problem"]


def test_a_form_with_other_fields_or_values_is_refused():
    for body in ({"evil": "x"}, {"model": 1}, {"data": "x" * 5000}, {"task": "ppo"}, {"method": "x"}, {"data": "a\0"}):
        with pytest.raises(ConfigError):
            TuneForm.of(body)


def test_an_adapter_is_measured_as_its_base(tmp_path, model, talk):
    adapter = tmp_path / "run" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    found = base_model(tmp_path / "run")
    assert found.has_adapter and found.folder == model
    shutil.copy(model / "tokenizer.json", adapter)
    assert base_model(adapter).tokenizer_folder == adapter
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/nowhere"}')
    assert "not there any more" in plan(tmp_path, model=str(adapter), data=str(talk))["problem"]


def test_a_quantized_model_is_trained_by_qlora_alone(tmp_path, model, talk):
    packed = tmp_path / "packed"
    shutil.copytree(model, packed)
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps({**config, "quantization": {"format": "nf4"}}))
    assert "is quantized" in plan(tmp_path, model=str(packed), data=str(talk))["problem"]
    assert plan(tmp_path, model=str(packed), data=str(talk), method="qlora")["problem"] is None


def test_a_data_set_of_the_hub_is_not_read_while_typing(tmp_path, model):
    found = plan(tmp_path, model=str(model), data="owner/name")
    assert (found["problem"], found["data"], found["steps"]) == (None, None, None)
    assert "when the command begins" in found["how"]


def test_times_come_from_earlier_runs_on_this_computer(tmp_path, model, talk):
    import dataclasses

    from mamba_slm.dashboard.reading.tunable import SYSTEM
    from mamba_slm.runs.record import read_record, write_record

    form = {"model": str(model), "data": str(talk)}
    assert plan(tmp_path, **form)["seconds"] is None
    run = make_run(tmp_path)
    parameters = plan(tmp_path, **form)["parameters"]
    result = {"tokens": 1000.0, "seconds": 2.0, "parameters": 10 * parameters}
    record = read_record(run.record_file)
    write_record(
        run.record_file, dataclasses.replace(record, kind="finetune", hardware={"system": SYSTEM}, result=result)
    )
    found = plan(tmp_path, **form)
    assert found["seconds"] == pytest.approx(found["tokens"] / 5000)
    assert "1 earlier run " in found["pace"]


def test_of_an_alignment_what_the_latest_one_took_is_said(tmp_path, model, talk):
    import dataclasses

    from mamba_slm.dashboard.reading.tunable import SYSTEM
    from mamba_slm.runs.record import read_record, write_record

    form = {"model": str(model), "data": str(talk), "task": "grpo", "reward": "length=9"}
    before = plan(tmp_path, **form)
    assert before["seconds"] is before["memory_bytes"] is None
    assert "first run here will tell" in before["pace"]
    run = make_run(tmp_path)
    result = {"step": 10, "seconds": 5.0, "memory_bytes": 2**30, "parameters": 10_600_000}
    record = read_record(run.record_file)
    write_record(run.record_file, dataclasses.replace(record, kind="align", hardware={"system": SYSTEM}, result=result))
    assert "20260401-nano of 10.6M parameters took 1.00 GiB and 0.5 s a step" in plan(tmp_path, **form)["pace"]


def test_times_on_a_gpu_are_those_of_models_estimate(capsys):
    from mamba_slm.cli.dashboard_tuning import on_this_gpu
    from mamba_slm.cli.main import main
    from mamba_slm.core.hardware import find_gpu
    from mamba_slm.finetuning.memory_estimate import FinetuneShape
    from mamba_slm.model.presets import preset

    words = ["models", "estimate", "60M", "--task", "lora", "--gpu", "RTX 4090", "--tokens", "3M", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    shape = FinetuneShape(
        method="lora", context_tokens=said["context_tokens"], rows_at_once=said["rows_at_once"], precision="bf16",
        on_gpu=True,
    )  # fmt: skip
    found = on_this_gpu(preset("60M"), shape, find_gpu("RTX 4090"), tokens=3_000_000)
    assert found["seconds"] == pytest.approx(said["seconds"], rel=0.02)
    assert found["cost_usd"] == pytest.approx(said["cost_usd"], rel=0.02)
    assert "RTX 4090" in found["how"]
    assert on_this_gpu(preset("60M"), shape, None, tokens=1)["seconds"] is None


def test_planning_and_looking_load_no_torch(model, talk):
    code = (
        "import sys\nfrom mamba_slm.cli.dashboard_plan import actions\n"
        f"words = ['finetune', {str(model)!r}, '--data', {str(talk)!r}]\n"
        "assert actions().plan_tuning(words, True)['steps']\n"
        "assert actions().example_of_tuning(words, 0)['parts']\n"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_dry_run_is_a_job_that_shows_the_mask_and_makes_no_run(tmp_path, model, talk):
    import time

    client = client_of(tmp_path)
    form = {"model": str(model), "data": str(talk), "name": "mine"}
    assert client.post("/api/tune/start", json={**form, "is_dry": "yes"}, headers=OWN).status_code == 400
    assert client.post("/api/tune/start", json={**form, "is_dry": True}, headers=OWN).status_code == 200
    deadline = time.monotonic() + 600
    while (job := list_jobs(tmp_path)[-1]).state in ("waiting", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    said = job.log_file.read_text()
    assert job.exit_code == 0, said
    assert "⟦Home.<|im_end|>⟧" in said and "plan " in said
    assert not (tmp_path / "mine").exists() and job.run is None


def test_read_only_plans_and_starts_and_reads_nothing(tmp_path, model, talk):
    client = client_of(tmp_path, is_read_only=True)
    form = {"model": str(model), "data": str(talk)}
    for what in ("start", "look"):
        assert client.post(f"/api/tune/{what}", json=form, headers=OWN).status_code == 400
    found = client.post("/api/tune/plan", json=form, headers=OWN).json()
    assert found["command"] and found["data"] is None
    assert list_jobs(tmp_path) == []
    assert 'id="start"' not in client.get("/tune").text


def test_rated_sets_and_models_are_offered(tmp_path):
    run = make_run(tmp_path)
    preferences = pairs_to_rate(tmp_path)
    assert client_of(tmp_path).get("/api/tune/known").json()["sets"] == []
    pair = preferences.pairs()[0]
    preferences.add_ratings([Rating(id="1", pair=pair.id, rater="me", choice="left", swapped=False)])
    found = client_of(tmp_path).get("/api/tune/known").json()
    assert found == {"models": [str(run.path)], "sets": [f"prefs:{preferences.path}"]}
