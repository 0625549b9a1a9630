"""The benchmark of the English gate runs, and its table is what its texts make. Nothing is timed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")
ENGLISH = "The committee will meet on Tuesday to discuss which of the proposals should be carried out first. " * 2
GERMAN = "Der Ausschuss trifft sich am Dienstag, um zu besprechen, welche Vorschläge zuerst umgesetzt werden. " * 2


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_speed_of_a_folder_and_a_peer_that_is_not_there(tmp_path):
    (tmp_path / "one.txt").write_text(ENGLISH * 50)
    rows = json.loads(
        run("data_language.py", "--json", "speed", tmp_path, "--rounds", 1, "--peer", f"pycld2={sys.executable}")
    )
    assert [row["way"] for row in rows] == ["language gate, compiled", "language gate, in Python"]
    assert rows[0]["bytes"] == len(ENGLISH) * 50


def test_quality_is_the_share_of_each_folder_that_stays(tmp_path):
    for name, texts in {"en": [ENGLISH, ENGLISH, GERMAN], "de": [GERMAN]}.items():
        (tmp_path / name).mkdir()
        for number, text in enumerate(texts):
            (tmp_path / name / f"{number}.md").write_text(text)
    printed = run("data_language.py", "quality", tmp_path / "en", tmp_path / "de", "--kind", "web", "--odd", 3)
    assert re.search(r"en +3 documents, kept 0\.6667\n    0\.0\d\d 2\.md\n", printed)
    assert re.search(r"de +1 documents, kept 0\.0000\n", printed)


@pytest.mark.slow
@needs_data
def test_the_table_that_comes_with_the_package_is_made_of_these_texts_to_the_byte():
    run("language_table.py", SHARED, "--check")


@pytest.mark.slow
@needs_data
def test_a_confidence_of_nine_in_ten_means_that_on_texts_that_were_held_out():
    printed = run("language_table.py", SHARED, "--held-out")
    row = re.compile(
        r"0\.80 to 0\.90: said (\S+), English (\S+), (\d+) texts\n.*0\.95: said (\S+), English (\S+), (\d+)"
    )
    kinds = row.findall(printed)
    assert len(kinds) == 4
    for numbers in kinds:
        said, english, texts, said_above, english_above, texts_above = map(float, numbers)
        total = texts + texts_above
        assert total >= 70
        said, english = (
            (one * texts + above * texts_above) / total for one, above in ((said, said_above), (english, english_above))
        )
        assert abs(said - english) <= 0.1, printed
