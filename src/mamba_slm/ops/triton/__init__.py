"""GPU kernels in Triton; `start.py` tests and installs them, and the other modules are loaded by nobody else."""
