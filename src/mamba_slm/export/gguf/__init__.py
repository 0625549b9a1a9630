"""GGUF files for llama.cpp, Ollama and LM Studio: written, quantized, and read back."""
