"""One file for each group of addresses, each with `router(service)`."""
