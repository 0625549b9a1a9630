"""What models are compared on is the same every time, within their limits, and holds real text where it can."""

from mamba_slm.export.probes import TEXT, probe_sequences, random_sequences, text_sequences
from small_models import small_tokenizer


def test_random_tokens_are_the_same_every_time_and_inside_the_vocabulary():
    found = random_sequences(10, 200)
    assert found == random_sequences(10, 200)
    assert {token for tokens in found for token in tokens} == set(range(10))
    assert [len(tokens) for tokens in random_sequences(10, 7, count=3)] == [7, 7, 7]


def test_text_is_cut_into_pieces_that_hold_all_of_it():
    encode = small_tokenizer().encode
    pieces = text_sequences(encode, 50, count=1000)
    assert max(map(len, pieces)) == 50
    ids = encode(TEXT)
    assert [token for piece in pieces for token in piece] in (ids, ids[:-1])  # a last piece of one token is left out
    assert small_tokenizer().decode(ids) == TEXT


def test_no_piece_is_a_single_token():
    assert text_sequences(lambda _: [1, 2, 3], 2, count=9) == [[1, 2]]
    assert text_sequences(lambda _: None, 2) == []


def test_probes_have_text_where_there_is_a_tokenizer_and_keep_to_the_context():
    without, encode = probe_sequences(320), small_tokenizer().encode
    found = probe_sequences(320, encode, max_tokens=9)
    assert len(found) == len(without) + 1
    assert {len(tokens) for tokens in found} == {9}
    assert found[-1] == encode(TEXT)[:9]
