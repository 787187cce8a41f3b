"""Everything that concerns the Hub alone: errors, uploads, the text of cards, licenses."""
