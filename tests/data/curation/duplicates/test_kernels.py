"""Both kernels equal the definition to the last bit, on any text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.curation.duplicates.corpus import make_corpus, native_or_none, sets_of, texts_of
from mamba_slm.core.native import missing_for_native
from mamba_slm.data.curation.duplicates import definition, portable
from mamba_slm.data.curation.duplicates import kernels as kernels_module
from mamba_slm.data.curation.duplicates import native as native_module
from mamba_slm.data.curation.duplicates.config import DuplicatesConfig
from mamba_slm.data.curation.duplicates.definition import MASK, MULTIPLY_2, mix, shingles_of, word_hash, words_of
from mamba_slm.data.curation.duplicates.kernels import difference, kernels
from mamba_slm.data.curation.duplicates.portable import PortableKernels

CONFIG = DuplicatesConfig()
HOSTILE = [
    "",
    "a",
    "\x00\x00a\x00",
    "x" * 1_000_000,
    "x " * 100_000,
    "漢" * 30_000,
    "\u0301" * 1000,
    "a\u0301" * 1000,
    "\U0001f600" * 1000,
    "Ⱥ" * 1000,
    "\U0010ffff\ue000\u200d",
    " " * 10_000,
    "12345678 123456789 1234567 " * 3,
]


def each_kernel():
    native = native_or_none()
    return [PortableKernels(), *([native] if native else [])]


def test_a_machine_with_a_compiler_has_the_compiled_kernel():
    assert (native_or_none() is None) == (missing_for_native() is not None)


def check(texts: list[str]) -> None:
    block = texts_of(texts)
    words = [words_of(text) for text in texts]
    sets = [sorted(shingles_of(text)) for text in texts]
    first, *others = [kernel.sign(block, CONFIG) for kernel in each_kernel()]
    for other in others:
        assert np.array_equal(first.content, other.content)
        assert np.array_equal(first.keys, other.keys)
        assert np.array_equal(first.num_words, other.num_words)
    assert first.num_words.tolist() == [len(each) for each in words]
    for kernel in each_kernel():
        found = kernel.shingles(block)
        assert [found.values[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == sets
    hashes = [kernel.hash_bytes(block, 7) for kernel in each_kernel()]
    assert all(np.array_equal(hashes[0], other) for other in hashes)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_texts(texts):
    check(texts)


def test_hostile_texts():
    check(HOSTILE)


def test_long_texts_are_cut_between_words(monkeypatch):
    monkeypatch.setattr(portable, "BLOCK_BYTES", 50)
    check(["one two three " * 30, "x" * 300, "", "ab cd " + "y" * 100 + " é", "", "漢字 " * 40, *HOSTILE[-3:]])


def test_every_character():
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    check([" a".join(map(chr, points[i : i + 5000])) for i in range(0, len(points), 50_000)])


def test_a_text_means_the_same_wherever_it_stands_in_a_block():
    texts = [document.text for document in make_corpus(20)]
    for kernel in each_kernel():
        whole = kernel.sign(texts_of(texts), CONFIG)
        for i in (0, 7, len(texts) - 1):
            alone = kernel.sign(texts_of([texts[i]]), CONFIG)
            assert np.array_equal(alone.content[0], whole.content[i])
            assert np.array_equal(alone.keys[0], whole.keys[i])


def test_keys_and_content_follow_the_formulas():
    text = "one two three four five six seven"
    signed = PortableKernels().sign(texts_of([text]), CONFIG)
    from mamba_slm.data.curation.duplicates.constants import CONTENT_SEED, permutation_factors, permutation_flips

    factors, flips = permutation_factors(CONFIG).tolist(), permutation_flips(CONFIG).tolist()
    least = [
        min((shingle & 0xFFFFFFFF ^ flip) * factor & 0xFFFFFFFF for shingle in shingles_of(text))
        for factor, flip in zip(factors, flips, strict=True)
    ]
    key = mix(3 * definition.GOLDEN & MASK)
    for a, b in ((14, 15), (16, 17), (18, 19), (20, None)):
        key = mix(key ^ least[a] ^ (least[b] << 32 if b else 0))
    assert signed.keys[0, 2] == key
    each = [mix(word_hash(word) + (i + 1) * definition.GOLDEN & MASK) for i, word in enumerate(words_of(text))]
    high, low = sum(each) & MASK, sum(((m ^ m >> 29) * MULTIPLY_2 & MASK) ^ m >> 32 for m in each) & MASK
    assert signed.content[0, 0] == mix(high ^ mix(7 + CONTENT_SEED & MASK))
    assert signed.content[0, 1] == mix(low + mix(7 ^ ~CONTENT_SEED & MASK) & MASK)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), unique=True, max_size=30), min_size=2, max_size=6))
def test_shared_shingles_are_counted_exactly(values):
    first, second = np.indices((len(values), len(values)), np.int64).reshape(2, -1)
    expected = [len({*values[a]} & {*values[b]}) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    for kernel in each_kernel():
        assert kernel.shared(sets_of(values), first, second).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2, 5, 2**63, 2**64 - 1])), st.integers(1, 40))
def test_hashes_are_sorted_and_equal_ones_stay_in_their_order(values, times):
    keys = np.array(values * times, np.uint64)
    for kernel in each_kernel():
        found = keys.copy()
        assert np.array_equal(kernel.sort(found), np.argsort(keys, kind="stable"))
        assert np.array_equal(found, np.sort(keys))


def test_minhash_values_agree_as_often_as_the_sets_do():
    """The hash family is quick; its bands still miss no more than independent ones would."""
    from mamba_slm.data.curation.duplicates.constants import permutation_factors, permutation_flips
    from mamba_slm.data.curation.duplicates.portable import least_values

    source = np.random.default_rng(5)
    trials, missed, agreed = 1000, 0, 0
    for size in (9, 90, 450):
        shared, own = size * 8 // 9, size // 9
        numbers = source.integers(0, 1 << 32, (trials, shared + 2 * own), dtype=np.uint32)
        a, b = numbers[:, : shared + own], np.concatenate([numbers[:, :shared], numbers[:, shared + own :]], axis=1)
        windows = np.full(trials, size, np.int64)
        equal = least_values(a.ravel(), windows, CONFIG) == least_values(b.ravel(), windows, CONFIG)
        agreed += equal.sum()
        missed += (~equal.reshape(trials, CONFIG.bands, CONFIG.rows).all(axis=2).any(axis=1)).sum()
    assert len(permutation_factors(CONFIG)) == len(permutation_flips(CONFIG)) == 208
    assert abs(agreed / (3 * trials * CONFIG.permutations) - 0.8) < 0.004
    assert missed / (3 * trials) < 0.0045  # 0.00137 is expected, and 0.005 allowed


def test_without_a_compiler_numpy_does_it_and_says_why(monkeypatch, caplog):
    kernels.cache_clear()
    native_module.library.cache_clear()
    monkeypatch.setenv("CXX", "/no/such/compiler")
    from mamba_slm.core.native import load_library

    load_library.cache_clear()
    with caplog.at_level("INFO", logger=kernels_module.__name__):
        assert type(kernels("auto")).__name__ == "PortableKernels"
    assert "numpy, many times slower (no native kernels" in caplog.text
    for cached in (kernels, native_module.library, load_library):
        cached.cache_clear()


def test_a_kernel_that_is_wrong_is_found_out():
    class Wrong(PortableKernels):
        def hash_bytes(self, texts, seed):
            return super().hash_bytes(texts, seed) + np.uint64(1)

    assert difference(PortableKernels(), PortableKernels()) is None
    assert difference(Wrong(), PortableKernels()) == "hash_bytes differs"


@pytest.mark.parametrize("choice", ["native", "numpy"])
def test_a_kernel_can_be_asked_for(choice):
    if choice == "native" and native_or_none() is None:
        pytest.skip("no compiler here")
    assert type(kernels(choice)).__name__ == {"native": "NativeKernels", "numpy": "PortableKernels"}[choice]
