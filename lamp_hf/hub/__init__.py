"""What is common to all exchange with the Hub: errors, uploads, the text of cards, licenses."""
