"""Pure functions on tensors. The naive reference is the definition; faster backends are tested against it."""
