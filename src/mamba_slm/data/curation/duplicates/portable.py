"""The kernels in numpy: what a plain install runs, and what the compiled ones are tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mamba_slm.data.curation.duplicates.batches import Texts
from mamba_slm.data.curation.duplicates.characters import ALONE, CLASS_SHIFT, DROPPED, WORD, character_table
from mamba_slm.data.curation.duplicates.config import SHINGLE_WORDS, DuplicatesConfig
from mamba_slm.data.curation.duplicates.constants import (
    CONTENT_SEED,
    WORD_FACTOR_ARRAY,
    permutation_factors,
    permutation_flips,
)
from mamba_slm.data.curation.duplicates.definition import GOLDEN, MASK, MULTIPLY_1, MULTIPLY_2
from mamba_slm.data.curation.duplicates.kernels import ShingleSets, Signatures

U = np.uint64
LANES_AT_ONCE, BLOCK_VALUES = 64, 1 << 21
"""MinHash values per shingle, and of all shingles, that are held at once."""
BLOCK_BYTES = 1 << 22
FEW_WORDS = 8

Numbers = NDArray[np.uint64]
Places = NDArray[np.int64]


def mixed(values: Numbers) -> Numbers:
    """`definition.mix` of an array."""
    values = (values ^ values >> U(30)) * U(MULTIPLY_1)
    values = (values ^ values >> U(27)) * U(MULTIPLY_2)
    return values ^ values >> U(31)


def starts_of(counts: Places) -> Places:
    """Where runs of these lengths start, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def position_in_run(counts: Places) -> Places:
    """0, 1, … within each run."""
    starts = starts_of(counts)
    return np.arange(starts[-1]) - np.repeat(starts[:-1], counts)


def sum_of_runs(values: Numbers, counts: Places) -> Numbers:
    """The sum of each run modulo 2^64; 0 for an empty one."""
    sums = np.concatenate([np.zeros(1, U), np.cumsum(values, dtype=U)])
    starts = starts_of(counts)
    return sums[starts[1:]] - sums[starts[:-1]]


def hash_runs(values: Numbers, counts: Places, lengths: Places, seed: int) -> Numbers:
    """[runs, 2] 128 bits of each run of numbers, with its length."""
    each = mixed(values + (position_in_run(counts) + 1).astype(U) * U(GOLDEN))
    high = sum_of_runs(each, counts)
    low = sum_of_runs((each ^ each >> U(29)) * U(MULTIPLY_2) ^ each >> U(32), counts)
    sizes = lengths.astype(U)
    return np.stack([mixed(high ^ mixed(sizes + U(seed))), mixed(low + mixed(sizes ^ U(~seed & MASK)))], axis=1)


def chunks_of(data: NDArray[np.uint8], offsets: Places) -> tuple[Numbers, Places]:
    """Runs of bytes as little-endian 64-bit numbers, the last of each padded with zeros, and how many per run."""
    lengths = np.diff(offsets)
    counts = -(-lengths // 8)
    padded = np.zeros(int(counts.sum()) * 8, np.uint8)
    where = np.arange(offsets[0], offsets[-1]) + np.repeat(starts_of(counts)[:-1] * 8 - offsets[:-1], lengths)
    padded[where] = data[offsets[0] : offsets[-1]]
    return padded.view("<u8").astype(U), counts


def word_hashes(texts: Texts) -> tuple[Numbers, Places]:
    """The hashes of all words in order, and how many each text has; some megabytes at a time."""
    cuts = np.unique(np.concatenate([texts.offsets, cuts_of(texts)]))
    words, counts = [np.zeros(0, U)], [np.zeros(0, np.int64)]
    start = 0
    while start < len(cuts) - 1:
        end = max(start + 1, int(np.searchsorted(cuts, cuts[start] + BLOCK_BYTES, side="right")) - 1)
        data = texts.data[cuts[start] : cuts[end]]
        found, number = word_hashes_of_block(Texts(data=data, offsets=cuts[start : end + 1] - cuts[start]))
        words.append(found)
        counts.append(number)
        start = end
    before = starts_of(np.concatenate(counts))[np.searchsorted(cuts, texts.offsets)]
    return np.concatenate(words), np.diff(before)


def cuts_of(texts: Texts) -> Places:
    """Places behind spaces where texts longer than a block may be cut without cutting a word."""
    cuts = []
    for number in np.flatnonzero(np.diff(texts.offsets) > BLOCK_BYTES).tolist():
        text, start, place = texts.bytes_of(number), int(texts.offsets[number]), 0
        while len(text) - place > BLOCK_BYTES:
            place = max(text.rfind(b" ", place, place + BLOCK_BYTES), text.find(b" ", place + BLOCK_BYTES)) + 1
            if not place:
                break
            cuts.append(start + place)
    return np.array(cuts, np.int64)


def word_hashes_of_block(texts: Texts) -> tuple[Numbers, Places]:
    """As `word_hashes`."""
    points = np.frombuffer(texts.data.tobytes().decode().encode("utf-32-le"), "<u4").astype(np.uint32)
    entries = character_table()[points]
    kinds, folded = entries >> np.uint32(CLASS_SHIFT), entries & np.uint32((1 << CLASS_SHIFT) - 1)
    bytes_before = starts_of(np.array([1, 2, 3, 4])[np.digitize(points, [0x80, 0x800, 0x10000])])
    text_of = np.searchsorted(texts.offsets, bytes_before[:-1], side="right") - 1
    here = kinds != DROPPED
    kinds, folded, text_of = kinds[here], folded[here], text_of[here]
    if not len(kinds):
        return np.zeros(0, U), np.zeros(len(texts), np.int64)
    goes_on = (kinds[1:] == WORD) & (kinds[:-1] == WORD) & (text_of[1:] == text_of[:-1])
    starts = np.concatenate([[True], ~goes_on]) & ((kinds == WORD) | (kinds == ALONE))
    inside = (kinds == WORD) | (kinds == ALONE)
    word_of = (np.cumsum(starts) - 1)[inside]
    widths = np.array([1, 2, 3, 4])[np.digitize(folded[inside], [0x80, 0x800, 0x10000])]
    data = np.frombuffer(folded[inside].astype("<u4").tobytes().decode("utf-32-le").encode(), np.uint8)
    lengths = np.bincount(word_of, widths, minlength=int(starts.sum())).astype(np.int64)
    chunks, counts = chunks_of(data, starts_of(lengths))
    return hash_words(chunks, counts, lengths), np.bincount(text_of[starts], minlength=len(texts)).astype(np.int64)


def hash_words(chunks: Numbers, counts: Places, lengths: Places) -> Numbers:
    """`definition.word_hash` of all words: one chunk of each at a time, the longest words first."""
    order = np.argsort(-counts, kind="stable")
    starts = starts_of(counts)[:-1][order]
    states = lengths[order].astype(U) * U(GOLDEN)
    ascending = np.sort(counts)
    number = 0
    while (live := len(order) - int(np.searchsorted(ascending, number, side="right"))) > FEW_WORDS:
        now = (states[:live] ^ chunks[starts[:live] + number]) * U(MULTIPLY_1)
        states[:live] = now ^ now >> U(32)
        number += 1
    for word in range(live):  # the longest ones, perhaps a million characters
        state = int(states[word])
        for chunk in chunks[starts[word] + number : starts[word] + counts[order[word]]].tolist():
            state = (state ^ chunk) * MULTIPLY_1 & MASK
            state ^= state >> 32
        states[word] = state
    out = np.empty_like(states)
    out[order] = states
    return out


def shingle_hashes(words: Numbers, counts: Places) -> tuple[Numbers, Places]:
    """The hashes of all shingles in order, repeated ones too, and how many each text has."""
    windows = np.where(counts >= SHINGLE_WORDS, counts - SHINGLE_WORDS + 1, np.minimum(counts, 1))
    first = np.repeat(starts_of(counts)[:-1], windows) + position_in_run(windows)
    end = np.repeat(starts_of(counts)[1:], windows)
    padded = np.concatenate([words, np.zeros(SHINGLE_WORDS, U)])
    sums = np.zeros(len(first), U)
    for k, factor in enumerate(WORD_FACTOR_ARRAY):
        sums += np.where(first + k < end, padded[first + k] * factor, U(0))
    return mixed(sums), windows


class PortableKernels:
    """numpy."""

    def hash_bytes(self, texts: Texts, seed: int) -> Numbers:
        """As `Kernels.hash_bytes`."""
        chunks, counts = chunks_of(texts.data, texts.offsets)
        return hash_runs(chunks, counts, np.diff(texts.offsets), seed)

    def sign(self, texts: Texts, config: DuplicatesConfig) -> Signatures:
        """As `Kernels.sign`."""
        words, counts = word_hashes(texts)
        content = hash_runs(words, counts, counts, CONTENT_SEED)
        shingles, windows = shingle_hashes(words, counts)
        keys = band_keys(least_values(shingles.astype(np.uint32), windows, config), config)
        return Signatures(content=content, num_words=counts, keys=keys)

    def shingles(self, texts: Texts) -> ShingleSets:
        """As `Kernels.shingles`."""
        values, windows = shingle_hashes(*word_hashes(texts))
        starts = starts_of(windows)
        sets = [np.unique(values[starts[i] : starts[i + 1]]) for i in range(len(texts))]
        sizes = np.fromiter(map(len, sets), np.int64, len(sets))
        return ShingleSets(values=np.concatenate([*sets, np.zeros(0, U)]), offsets=starts_of(sizes))

    def sort(self, keys: Numbers) -> Places:
        """As `Kernels.sort`."""
        places = np.argsort(keys, kind="stable")
        keys[:] = keys[places]
        return places

    def shared(self, sets: ShingleSets, first: Places, second: Places) -> Places:
        """As `Kernels.shared`."""
        out = np.zeros(len(first), np.int64)
        for i, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            both = (sets.values[sets.offsets[n] : sets.offsets[n + 1]] for n in (a, b))
            out[i] = len(np.intersect1d(*both, assume_unique=True))
        return out


def least_values(shingles: NDArray[np.uint32], windows: Places, config: DuplicatesConfig) -> NDArray[np.uint32]:
    """[texts, permutations] the least hash of each text's shingles; all ones without any."""
    factors, flips = permutation_factors(config), permutation_flips(config)
    out = np.full((len(windows), config.permutations), 0xFFFFFFFF, np.uint32)
    text_of = np.repeat(np.arange(len(windows)), windows)
    step = max(1, BLOCK_VALUES // LANES_AT_ONCE)
    for start in range(0, len(shingles), step):
        here, block = text_of[start : start + step], shingles[start : start + step, None]
        firsts = np.flatnonzero(np.concatenate([[True], here[1:] != here[:-1]]))
        for lane in range(0, config.permutations, LANES_AT_ONCE):
            lanes = slice(lane, min(lane + LANES_AT_ONCE, config.permutations))
            least = np.minimum.reduceat((block ^ flips[lanes]) * factors[lanes], firsts, axis=0)
            out[here[firsts], lanes] = np.minimum(out[here[firsts], lanes], least)
    return out


def band_keys(values: NDArray[np.uint32], config: DuplicatesConfig) -> Numbers:
    """[texts, bands] one hash per band of MinHash values."""
    rows = values.reshape(len(values), config.bands, config.rows).astype(U)
    keys = np.broadcast_to(mixed(np.arange(1, config.bands + 1, dtype=U) * U(GOLDEN)), rows.shape[:2])
    for row in range(0, config.rows, 2):
        pair = rows[:, :, row] | (rows[:, :, row + 1] << U(32) if row + 1 < config.rows else U(0))
        keys = mixed(keys ^ pair)
    return np.ascontiguousarray(keys)
