"""Probes: classifiers that recognize actions in motions, trained on real clips to score generated ones."""
