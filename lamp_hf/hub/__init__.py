"""Exchange with the outside: model cards and the authors' original checkpoints."""
