"""`benchmarks/data_duplicates.py` runs on texts and on a synthetic corpus, and finds what is true. Nothing is timed."""

import json
import random
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "data_duplicates.py"


def run(*arguments):
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_texts_of_a_folder(tmp_path):
    source = random.Random(1)
    words = [f"w{number}" for number in range(5000)]
    (tmp_path / "book.txt").write_text(". ".join(" ".join(source.choices(words, k=9)) for _ in range(8000)))
    measured = json.loads(run(str(tmp_path), "--rounds", "1", "--json"))
    assert measured["true_pairs"] > 10
    assert measured["recall"] >= 0.995
    assert measured["removed_without_true_duplicate"] == 0


def test_a_synthetic_corpus_and_the_plan_for_more():
    printed = run("--documents", "3000", "--plan", "2B", "--workers", "8")
    assert "3,000 documents" in printed
    assert "2.00B documents" in printed
    assert "8 workers: " in printed
