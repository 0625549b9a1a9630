"""Promises of the baselines: the real compressors, the same bytes for everybody."""

import lzma
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.evaluation import baselines
from mamba_slm.evaluation.baselines import compressor_rows, gzip_bytes, trigram_row, xz_bytes
from mamba_slm.evaluation.ngram import WittenBellTrigram


def sources():
    """Some real files of different sizes."""
    return [Path(module.__file__).read_text(encoding="utf-8") for module in (lzma, subprocess, shutil)]


@pytest.mark.parametrize("data", [b"", b"a", b"ab" * 5000, *(text.encode() for text in sources())])
def test_xz_with_a_small_dictionary_is_as_small_as_the_plain_preset(data):
    assert xz_bytes(data) == len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


@pytest.mark.parametrize("program, size", [(["gzip", "-9", "-c", "-n"], gzip_bytes), (["xz", "-9e", "-c"], xz_bytes)])
def test_sizes_are_those_of_the_command_line_programs(program, size):
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    data = sources()[1].encode()
    output = subprocess.run(program, input=data, capture_output=True, check=True).stdout
    # Other versions of zlib and liblzma may differ by a little; the checksum kind of xz is 4 or 8 bytes.
    assert abs(size(data) - len(output)) <= max(8, 0.005 * len(output)), zlib.ZLIB_RUNTIME_VERSION


def test_all_rows_are_measured_on_the_same_utf8_bytes_and_say_how():
    texts = [*sources(), "ünïcödé 語"]
    rows = compressor_rows(texts)
    assert [row["name"] for row in rows] == [baselines.GZIP_EACH, baselines.XZ_EACH, baselines.XZ_TOGETHER]
    assert {row["bytes"] for row in rows} == {sum(len(text.encode()) for text in texts)}
    assert all(row["how"] for row in rows)
    assert rows[0]["bits_per_byte"] == 8 * sum(gzip_bytes(t.encode()) for t in texts) / rows[0]["bytes"]
    assert rows[2]["bits_per_byte"] < rows[1]["bits_per_byte"]


def test_the_trigram_row_is_the_cost_of_every_token_after_bos():
    train = [np.array([0, 1, 2, 3, 1, 2, 0]), np.array([0, 3, 2, 0])]
    held_out = [np.array([0, 1, 2, 0]), np.array([0, 2, 2, 0])]
    model = WittenBellTrigram.fit(train, vocab_size=5)
    bits = -sum(model.log2_probabilities(document).sum() for document in held_out)
    row = trigram_row(held_out, training_documents=train, vocab_size=5, num_bytes=11)
    assert row["bits_per_byte"] == pytest.approx(bits / 11)
    assert row["bytes"] == 11
    assert "9 training tokens" in row["how"]


def test_no_held_out_text_is_an_error():
    with pytest.raises(DataError, match="no held-out text"):
        compressor_rows([])
