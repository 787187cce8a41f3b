"""What mirroring does to the words of a caption."""

import re

__all__ = ["SIDE", "swap_sides"]

SIDE = re.compile(r"\b(left|right)(?=\b|ward|wards)", re.IGNORECASE)


def swap_sides(text: str) -> str:
    """Swap left and right, in compounds such as "leftward" and "right-handed" too."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        swapped = "right" if word.lower() == "left" else "left"
        return swapped.upper() if word.isupper() else swapped.capitalize() if word[0].isupper() else swapped

    return SIDE.sub(other, text)
