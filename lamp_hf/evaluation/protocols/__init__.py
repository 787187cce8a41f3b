"""Evaluation protocols, one module per task. Each returns an [`EvaluationRecord`] of a checkpoint on a split."""
