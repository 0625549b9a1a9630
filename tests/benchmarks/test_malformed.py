"""`benchmarks/malformed.py`: hundreds of requests that nobody should send, to a server of its own."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mamba_slm.text.chat import CHATML_TEMPLATE
from small_models import save_small_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KINDS = 9


def test_the_same_seed_makes_the_same_requests_of_every_kind(monkeypatch):
    spec = importlib.util.spec_from_file_location("_malformed", BENCHMARKS / "_malformed.py")
    made_of = importlib.util.module_from_spec(
        spec
    )  # the folder itself on the path would hide tests/data and tests/serving
    monkeypatch.setitem(sys.modules, "_malformed", made_of)
    spec.loader.exec_module(made_of)
    attacks = made_of.attacks
    made = attacks(100, seed=3)
    assert made == attacks(100, seed=3) != attacks(100, seed=4)
    assert len({attack.kind for attack in made}) == KINDS


@pytest.mark.slow
def test_a_server_answers_all_of_them_in_words_and_forgets_them(tmp_path):
    folder = save_small_model(tmp_path / "small", max_context_tokens=512)
    (folder / "chat_template.jinja").write_text(CHATML_TEMPLATE)
    out = tmp_path / "figures.json"
    flags = "--runtime torch --prefix-cache-bytes 16Mi"
    command = [sys.executable, str(BENCHMARKS / "malformed.py"), str(folder), "--requests", "300", "--flags", flags]
    command += ["--idle-seconds", "0", "--warm-up-prompts", "20"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures = json.loads(out.read_text())
    assert figures["broken"] == [] and figures["tracebacks_in_the_log"] == 0
    assert figures["descriptors_growth"] <= 0 and len(figures["statuses"]) == KINDS
