"""Other formats with the same function: written, opened again with the other side's own code, and compared."""
