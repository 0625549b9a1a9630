"""How a model's weights, gradients and optimiser lie on the processes that train it."""
