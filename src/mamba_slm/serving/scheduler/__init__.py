"""What runs in the next step: a pure function of who is there, of the memory that is free, and of the time."""
