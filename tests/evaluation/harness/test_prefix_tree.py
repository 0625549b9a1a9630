"""Promises of the tree of shared beginnings."""

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.evaluation.harness.prefix_tree import Node, prefix_tree

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=14)


@given(SEQUENCES, st.integers(0, 12))
def test_a_path_spells_its_sequence_and_nothing_is_read_more_often_than_without_the_tree(sequences, worth_sharing):
    tree = prefix_tree(sequences, worth_sharing=worth_sharing)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert [token for node in path for token in node.tokens] == sequence
        assert all(node.tokens for node in path)
        assert [node.start for node in path] == [0, *(node.end for node in path[:-1])]
    assert tree.num_tokens <= sum(map(len, set(map(tuple, sequences))))


@given(SEQUENCES)
def test_where_every_token_is_worth_sharing_each_beginning_is_read_once(sequences):
    beginnings = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
    assert prefix_tree(sequences, worth_sharing=0).num_tokens == len(beginnings)


@given(SEQUENCES, st.randoms(use_true_random=False))
def test_the_tree_does_not_depend_on_the_order_of_the_sequences(sequences, random):
    shuffled = random.sample(sequences, len(sequences))

    def shape(nodes: list[Node]) -> list:
        return sorted((node.tokens, shape(node.children)) for node in nodes)

    assert shape(prefix_tree(sequences).roots) == shape(prefix_tree(shuffled).roots)


def test_what_saves_little_is_read_again():
    long, short = list(range(40)), [1, 2, 3]
    assert prefix_tree([[*long, 7], [*long, 8, 9]]).num_tokens == 43
    assert prefix_tree([[*short, 7], [*short, 8, 9]]).num_tokens == 9
