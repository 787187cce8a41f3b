"""Evaluation protocols: reconstruction, retrieval, text-to-motion and captioning, with records of their results."""
