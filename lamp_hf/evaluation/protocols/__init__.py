"""The field's protocols, one module a task; each gives an [`EvaluationRecord`] of a checkpoint on a split."""
