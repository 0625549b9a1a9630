"""Whether a document is English, as a calibrated probability: its words against a table of hashed parts of words."""
