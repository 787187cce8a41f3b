"""Publish what lamp_hf makes: checkpoints, processors, data sets and metrics, with their cards."""
