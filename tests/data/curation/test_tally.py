import json

from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.data.curation.tally import EXAMPLES, Tally
from mamba_slm.data.curation.verdict import Removed

WHAT = st.sampled_from(["read", "written", "a.x", "a.y", "b.z"])
EVENTS = st.lists(st.tuples(WHAT, st.integers(0, 5000)), max_size=40)


def remove(tally, rule, **document):
    tally.count_removed(Removed(rule=rule), source="s", **document)


def tally_of(events):
    tally = Tally()
    for number, (what, num_bytes) in events:
        if what in ("read", "written"):
            (tally.count_read if what == "read" else tally.count_written)(num_bytes)
        else:
            remove(tally, what, id=f"doc {number}", text=f"text {number}", num_bytes=num_bytes)
    return tally


@given(events=EVENTS, cut=st.integers(0, 40))
def test_tallies_of_parts_add_up_to_that_of_the_whole_in_any_order(events, cut):
    numbered = list(enumerate(events))
    whole, one, other = tally_of(numbered), tally_of(numbered[:cut]), tally_of(numbered[cut:])
    for first, second in ((one, other), (other, one)):
        total = Tally()
        total.add(first)
        total.add(second)
        assert total == whole


@given(events=EVENTS)
def test_a_tally_survives_json(events):
    tally = tally_of(enumerate(events))
    assert Tally.from_dict(json.loads(json.dumps(tally.to_dict()))) == tally


def test_few_examples_are_kept_and_control_characters_are_shown():
    tally = Tally()
    for number in range(50):
        remove(tally, "a.b", id=str(number), text=f"\x1b[31m\nred {number}", num_bytes=9)
    row = tally.removed["a.b"]
    assert row.documents == 50 and len(row.examples) == EXAMPLES
    assert row.examples == sorted(row.examples) and row.examples[0].text.startswith("\\x1b[31m red ")
