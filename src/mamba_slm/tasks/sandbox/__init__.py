"""Running programs that nobody has read: no network, no file, no other process, within limits, gone afterwards."""
