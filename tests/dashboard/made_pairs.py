"""Small conversations and pairs of answers, as people write them down."""

import json

from mamba_slm.runs.preferences.rows import Answer, Pair
from mamba_slm.runs.preferences.store import PreferenceSet


def conversations(file, count=24):
    """Questions with short answers, one in each line of a file."""
    rows = [
        [{"role": "user", "content": f"Where did the fox go on day {day}?"}, {"role": "assistant", "content": "Home."}]
        for day in range(count)
    ]
    file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return file


def pairs_to_rate(home, name="foxes", count=24):
    """A set in which the first model always says where the fox went, and the other one talks."""
    preferences = PreferenceSet.open_or_create(name, home, seed=5)
    preferences.add_pairs(
        Pair(
            ({"role": "user", "content": f"Where did the fox go on day {day}?"},),
            (
                Answer(f"Home, on day {day}.", "runs/one"),
                Answer(f"Foxes are a matter of much debate on day {day}.", "runs/two"),
            ),
        )
        for day in range(count)
    )
    return preferences
