"""Publish checkpoints, processors, data sets and metrics with their cards."""
