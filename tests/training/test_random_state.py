import json
import random

import numpy as np
import torch

from mamba_slm.training.random_state import random_states, random_states_kept, set_random_states


def draw():
    return torch.rand(3).tolist(), torch.randn(1).item(), np.random.normal(size=3).tolist(), random.gauss(0, 1)


def test_random_states_survive_json_and_give_the_same_numbers_again():
    draw()
    states = json.loads(json.dumps(random_states()))
    first = draw()
    draw()
    set_random_states(states)
    assert draw() == first


def test_what_happens_inside_does_not_change_the_numbers_after():
    set_random_states(states := random_states())
    expected = draw()
    set_random_states(states)
    with random_states_kept():
        draw()
        torch.manual_seed(0)
    assert draw() == expected
