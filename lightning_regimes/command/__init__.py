"""What the command `lightning-regimes` does; :mod:`lightning_regimes.cli` is its entry."""
