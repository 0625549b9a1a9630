"""The real-gated linear recurrent unit (Griffin, arXiv:2402.19427) as a sublayer of mamba-slm: the letter R."""
