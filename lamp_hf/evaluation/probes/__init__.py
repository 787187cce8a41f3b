"""Classifiers trained on real motions that recognize what generated ones show."""
