"""`mamba-slm bench`: train step, prefill and decode of a model beside transformers, in one run."""
