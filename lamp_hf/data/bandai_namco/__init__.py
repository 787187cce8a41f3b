"""Bandai-Namco motion dataset: its clips, and the grammar that generates captions from their labels."""

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar, CaptionGrammarError
from lamp_hf.data.bandai_namco.loader import bandai_namco_grammar, load_bandai_namco

__all__ = ["CaptionGrammar", "CaptionGrammarError", "bandai_namco_grammar", "load_bandai_namco"]
