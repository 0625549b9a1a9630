"""What stands in a field of a form stays that field's value: it becomes no other flag, and nothing but text."""

from dataclasses import fields

import pytest

from dashboard.made_runs import client_of
from mamba_slm.cli.dashboard_plan import check_command
from mamba_slm.core.errors import MambaSlmError
from mamba_slm.dashboard import forms, forms_rate, forms_serve, forms_tune
from mamba_slm.dashboard.forms_data import CountForm, CurateForm, DownloadForm, MixForm
from mamba_slm.dashboard.forms_evaluate import EvaluateForm
from mamba_slm.dashboard.forms_models import FORMS
from mamba_slm.dashboard.forms_tokens import TokenizeForm

OWN = {"Origin": "http://localhost:8888"}
INJECTED = ("--debug", "-h", "--out=/elsewhere", "--insecure-no-keys")
FILLED = {
    forms.TrainForm: ({"preset": "nano", "data": "a.txt"}, forms.TEXTS),
    forms_tune.TuneForm: ({"model": "m", "data": "a.jsonl"}, forms_tune.TEXTS),
    forms_serve.ServeForm: ({"model": "m"}, forms_serve.TEXTS),
    EvaluateForm: ({"model": "m", "benchmarks": "piqa"}, None),
    CountForm: ({"path": "a"}, None),
    DownloadForm: ({"name": "tinystories"}, None),
    MixForm: ({"sources": "a=b", "out": "c"}, None),
    CurateForm: ({"inputs": "a", "out": "b"}, None),
    TokenizeForm: ({"inputs": "a", "out": "b"}, None),
    forms_rate.SetForm: ({"name": "a", "models": "m", "prompts": "p"}, forms_rate.TEXTS),
    **{FORMS[name]: ({"model": "m", "out": "x"}, None) for name in ("quantize", "export", "merge")},
    **{FORMS[name]: ({"model": "m"}, None) for name in ("formats", "verify")},
}


WITH_HOME = (EvaluateForm, forms_rate.SetForm)
BEGINNINGS = {forms.TrainForm: ["train"], forms_tune.TuneForm: []}


def words_of(form, home):
    """The words after `mamba-slm`."""
    words = form.words(home) if isinstance(form, WITH_HOME) else form.words()
    return [*BEGINNINGS[type(form)], *words] if type(form) in BEGINNINGS else words[1:]


@pytest.mark.parametrize("form", FILLED, ids=lambda form: form.__name__)
@pytest.mark.parametrize("injected", INJECTED)
def test_a_value_that_looks_like_a_flag_is_a_value_or_refused(tmp_path, form, injected):
    given, names = FILLED[form]
    for name in names or [field.name for field in fields(form)]:
        if name == "more":  # further flags are flags
            continue
        try:
            words = words_of(form.of(given | {name: injected}), tmp_path)
            check_command(words)
        except MambaSlmError:
            continue  # its parser wants a value, or the form does
        assert injected not in words, (name, words)


PATHS = [f"{name}/plan" for name in ("train", "serve", "data/curate", "data/tokenize", "models", "tune", "rate")]
PATHS += ["evaluate/start", "serve/start", "data/count", "data/download", "data/mix"]


@pytest.mark.parametrize("path", PATHS)
def test_a_nul_is_no_text(tmp_path, path):
    client = client_of(tmp_path)
    begin = {"do": "verify"} if path == "models/plan" else {}
    for name in ("model", "path", "name", "inputs", "sources", "preset"):
        answer = client.post(f"/api/{path}", json=begin | {name: "a\0b"}, headers=OWN)
        assert answer.status_code == 400 or answer.json()["problem"], (path, name)
    assert not (tmp_path / ".jobs").exists()


def test_a_file_of_keys_and_its_names_hold_no_nul(tmp_path):
    client = client_of(tmp_path)
    for body in ({"file": "a\0b", "name": "x"}, {"file": "a", "name": "a\0b"}):
        assert client.post("/api/keys/add", json=body, headers=OWN).status_code == 400
