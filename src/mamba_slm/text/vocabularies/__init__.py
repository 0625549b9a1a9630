"""Vocabularies of other projects, in the forms in which they are published, read as `tokenizers` describes them."""
