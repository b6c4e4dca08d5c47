"""Sweeps: many runs of one experiment over axes of its configuration, in local processes or on a cluster."""
