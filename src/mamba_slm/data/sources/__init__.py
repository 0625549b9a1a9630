"""Where text comes from: a table of public data sets, the published mixture, and downloads that can be resumed."""
