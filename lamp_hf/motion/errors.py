"""The error that every reader raises for input it cannot accept."""


class MotionFormatError(ValueError):
    """A file or array does not hold a motion that can be used.

    Messages say what was given (file and line where there is one), what was expected and what was found, and end with
    a hint in parentheses where there is something to do about it.
    """
