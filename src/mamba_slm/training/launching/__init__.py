"""Training as a job of a cluster: what is submitted, and what happens when it is interrupted."""
