"""Between characters and tokens: the tokenizer, its training, chat rendering with loss masks. Imports no torch."""
