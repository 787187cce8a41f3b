"""The checkpoints embedded in the package, and the files of a checkpoint."""
