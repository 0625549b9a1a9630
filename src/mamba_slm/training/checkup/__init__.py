"""What is looked at before a training run costs money: weights, groups, sharding, kernels, and one real step."""
