"""Language-motion pretraining (LaMP) for the Hugging Face Hub."""

import os as _os

_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "modeling")):  # a checkout without symlinks
    __path__.append(_os.path.dirname(_here))

__version__ = "0.1.0"
