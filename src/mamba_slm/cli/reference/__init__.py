"""The pages of docs/reference that are made from the code: `python -m mamba_slm.cli.reference docs/reference`."""
