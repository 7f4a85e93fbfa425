"""Networks as files that run without this package: formats, int8, and the check that they compute what the network does."""
