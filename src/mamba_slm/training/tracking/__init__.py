"""Curves of a run for other people's dashboards: TensorBoard, Weights & Biases, trackio."""
