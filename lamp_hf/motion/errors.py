"""Error that every reader raises for input that it cannot use."""


class MotionFormatError(ValueError):
    """Error for a file or an array that does not contain a usable motion.

    The message names the input (the file, and the line if there is one), says what was expected and what was found,
    and ends with a hint in parentheses if there is a remedy.
    """
