"""Formulas of the metrics as functions, with their sources."""
