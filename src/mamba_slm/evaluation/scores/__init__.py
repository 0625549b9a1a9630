"""What scores mean: beside published ones, beside those of another model, on a page and in Markdown."""
