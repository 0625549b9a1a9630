"""What an answer is worth, computed by a program: for GRPO, and to look at before any training."""
