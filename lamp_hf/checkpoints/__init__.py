"""The checkpoints that come with the package, and which files make a checkpoint."""
