"""`benchmarks/speculative.py` measures every way to guess and says whether the text stayed the same."""

import re
import subprocess
import sys
from pathlib import Path

from small_models import save_small_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "speculative.py"


def test_every_way_to_guess_has_a_row_and_the_same_text(tmp_path):
    model = save_small_model(tmp_path / "model", max_context_tokens=200)
    flags = ("--runtime", "torch", "--rounds", "1", "--tokens", "20", "--guesses", "3")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(model), "--draft", str(model), *flags],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = re.findall(r"^\| 3, ([\w ]+) \| (\d\.\d\d) \|.*\| (yes|no) \|$", done.stdout, flags=re.MULTILINE)
    assert [name for name, _, _ in rows] == ["all right", "all wrong", "prompt lookup", "draft"]
    assert [float(rate) for name, rate, _ in rows if name in ("all right", "draft")] == [3.8, 3.8]  # 19 in 5 readings
    assert {same for _, _, same in rows} == {"yes"}
