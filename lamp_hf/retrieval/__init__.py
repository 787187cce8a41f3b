"""Motion search: the index on disk and the sources of its motions."""

# This must be the first import, for the reason given in lamp_hf/modeling/__init__.py.
import transformers  # noqa: F401

from .duplicates import near_duplicates
from .encoder import MotionTextEncoder
from .index import Found, IndexMismatchError, MotionIndex, MotionIndexError
from .opening import build_index, open_index
from .sources import DatasetSource, FolderSource, find_source

__all__ = [
    "DatasetSource",
    "FolderSource",
    "Found",
    "IndexMismatchError",
    "MotionIndex",
    "MotionIndexError",
    "MotionTextEncoder",
    "build_index",
    "find_source",
    "near_duplicates",
    "open_index",
]
