"""Says what to install where the libraries of fine-tuning are absent: import it before anything of theirs."""

from mamba_slm.core.optional import require

require("transformers", extra="finetune", purpose="fine-tuning")
