"""Ways to choose tokens: small frozen filters and penalties, and searches that need more than one draw per step."""
