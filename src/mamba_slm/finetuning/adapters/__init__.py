"""LoRA adapters for every part of a hybrid, through peft: attach, check, save, combine."""
