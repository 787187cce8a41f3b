"""Measures of the field: reconstruction, retrieval and text-to-motion, on real validation clips."""
