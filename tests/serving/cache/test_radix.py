"""The tree over tokens, against a dictionary of all sequences."""

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.serving.cache.radix import RadixTree, common_length, nearest_above, nearest_below

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=12)


def filled(sequences):
    tree, nodes = RadixTree(), {}
    for number, tokens in enumerate(sequences):
        nodes[tokens] = tree.put(tokens, number)
    return tree, nodes, {tokens: number for number, tokens in enumerate(sequences)}


def tokens_to(node):
    return () if node.parent is None else tokens_to(node.parent) + node.edge


def check(tree, stored):
    """Every value is found where it was put, depths and edges agree, and no node says nothing."""
    found = {tokens_to(node): node.value for node in tree.nodes() if node.value is not None}
    assert found == stored
    for node in tree.nodes():
        assert node.depth == len(tokens_to(node)) and node.parent.children[node.edge[0]] is node
        assert node.value is not None or node.had_value or len(node.children) >= 2


@given(SEQUENCES, st.lists(st.integers(0, 2), max_size=8))
def test_a_match_is_the_longest_agreement_with_what_is_stored(sequences, tokens):
    tree, _, stored = filled(sequences)
    check(tree, stored)
    match = tree.match(tokens)
    assert match.common == max((common_length(one, tuple(tokens), 0) for one in stored), default=0)
    with_value = [tokens_to(node) for node in match.path if node.value is not None]
    assert set(with_value) == {one for one in stored if one == tuple(tokens[: len(one)])}


@given(SEQUENCES, st.randoms(), st.booleans())
def test_what_is_taken_away_is_gone_and_nothing_else(sequences, random, remember):
    tree, nodes, stored = filled(sequences)
    for tokens in random.sample(sorted(stored), len(stored)):
        assert tree.take(nodes[tokens], remember=remember) == stored.pop(tokens)
        check(tree, stored)
    if remember:
        for node in list(tree.nodes()):
            if node.had_value:
                tree.forget(node)
    assert not list(tree.nodes())


def test_the_nearest_state_above_is_found_over_nodes_without_one():
    tree = RadixTree()
    first, deep = tree.put((1, 2), "a"), tree.put((1, 2, 3, 4, 5), "b")
    tree.put((1, 2, 3, 9), "c")
    assert nearest_above(deep) is first and nearest_above(first) is None


@given(SEQUENCES)
def test_below_a_node_are_those_that_have_it_above(sequences):
    tree, nodes, _ = filled(sequences)
    for node in (tree.root, *nodes.values()):
        expected = {other for other in nodes.values() if nearest_above(other) is (None if node is tree.root else node)}
        assert set(nearest_below(node)) == expected


@given(st.lists(st.integers(0, 1), max_size=9), st.lists(st.integers(0, 1), max_size=9), st.integers(0, 3))
def test_the_common_length_is_where_the_first_tokens_differ(edge, tokens, start):
    edge, tokens = tuple(edge), tuple(tokens)
    pairs = list(zip(edge, tokens[start:], strict=False))
    assert common_length(edge, tokens, start) == next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
