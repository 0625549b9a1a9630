"""Tasks and what runs them: processes of this machine, Ray, Slurm; whoever dies, the result is the same."""
