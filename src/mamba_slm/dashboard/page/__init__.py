"""The pages: each a function from what the runs say to HTML."""
