"""Personal data in text: found by patterns, confirmed by check digits, ranges and context, then masked or dropped."""
