"""A self-test that passed is not repeated, until anything that it depends on is different."""

from mamba_slm.core.tested import has_passed, keep_passed, sources_digest


def test_what_passed_is_known_for_the_same_dependencies_only(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path))
    assert not has_passed("step", 1)
    keep_passed("step", 1)
    assert has_passed("step", 1)
    assert not has_passed("step", 2)
    assert not has_passed("step")


def test_a_cache_that_cannot_be_written_means_testing_again(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAMBA_SLM_CACHE", str(tmp_path / "file"))
    keep_passed("step")
    assert not has_passed("step")


def test_the_digest_of_sources_sees_every_kind_of_source(tmp_path):
    digests = set()
    for number, name in enumerate(("a.py", "inner/b.cpp", "inner/c.h")):
        folder = tmp_path / str(number)
        (folder / "inner").mkdir(parents=True)
        digests.add(sources_digest(folder))
        (folder / name).write_text("x")
        sources_digest.cache_clear()
        digests.add(sources_digest(folder))
    assert len(digests) == 4  # of the empty folders one, and another for each
