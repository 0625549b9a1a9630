"""A server of one's own ends with what it was started for, whenever that ends."""

import subprocess

import pytest

from mamba_slm.core.errors import CheckFailedError
from mamba_slm.evaluation.load.own_server import own_server


class Interrupted:
    """The words of a server, while which somebody presses Ctrl-C."""

    def __iter__(self):
        raise KeyboardInterrupt

    def close(self):
        pass


def test_a_server_that_is_still_starting_is_ended_too(tmp_path, monkeypatch):
    started, popen = [], subprocess.Popen

    def remembered(*arguments, **settings):
        process = popen(*arguments, **settings)
        process.stderr.close()
        process.stderr = Interrupted()
        started.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", remembered)
    with pytest.raises(KeyboardInterrupt), own_server(str(tmp_path / "model")):
        pytest.fail("it never answered")
    assert started[0].returncode is not None


def test_one_that_does_not_start_is_an_error_with_its_words(tmp_path):
    with pytest.raises(CheckFailedError, match="ended with exit code") as caught, own_server(str(tmp_path / "nothing")):
        pytest.fail("it never answered")
    assert "nothing" in str(caught.value)
