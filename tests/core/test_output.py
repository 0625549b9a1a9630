"""A failed export leaves nothing; what stood there before stays until the new one is complete."""

import pytest

from mamba_slm.core.errors import DiskFullError, UsageError
from mamba_slm.core.output import new_output, put_in_place, require_free, require_space


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    out = tmp_path / "deep" / "out"
    with new_output(out, needed_bytes=10) as folder:
        (folder / "part").write_text("text")
        assert not out.exists()
    assert (out / "part").read_text() == "text"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    out = tmp_path / "model.gguf"
    with new_output(out, needed_bytes=10, is_file=True) as path:
        path.write_bytes(b"bytes")
        assert not out.exists()
    assert out.read_bytes() == b"bytes"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, is_file, error):
    with pytest.raises(error), new_output(tmp_path / "a" / "b" / "out", needed_bytes=10, is_file=is_file) as path:
        (path if is_file else path / "part").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_stands_there_is_refused_before_the_work(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    began = False
    with pytest.raises(UsageError, match="exists already"), new_output(out, needed_bytes=0):
        began = True
    assert not began
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError):
        require_free(tmp_path / "link")


def test_overwriting_keeps_the_old_one_until_the_new_one_is_complete(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(ValueError), new_output(out, needed_bytes=0, overwrite=True) as folder:
        (folder / "new").write_text("half")
        raise ValueError
    assert [path.name for path in out.iterdir()] == ["old"]
    with new_output(out, needed_bytes=0, overwrite=True) as folder:
        (folder / "new").write_text("new")
        assert (out / "old").read_text() == "old"
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [out]


def test_too_little_space_is_refused_with_both_numbers_and_nothing_is_made(tmp_path):
    out = tmp_path / "deep" / "out"
    with (
        pytest.raises(DiskFullError, match=r"needs 1024 TiB, but .* has .* free"),
        new_output(out, needed_bytes=1 << 50),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    require_space(out, 1)


def test_what_was_replaced_comes_back_when_the_new_one_cannot_be_put_there(tmp_path):
    (tmp_path / "out").write_text("old")
    (tmp_path / "new" / "out").mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "new" / "absent", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old"


def test_what_appears_during_the_work_is_not_replaced(tmp_path):
    with pytest.raises(UsageError), new_output(tmp_path / "out", needed_bytes=0, is_file=True) as path:
        path.write_text("ours")
        (tmp_path / "out").write_text("theirs")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["theirs"]
