"""Whether an optional part of the package is installed, told before any work."""

from importlib.util import find_spec

__all__ = ["require_faiss"]


def require_faiss() -> None:
    """Check that motions can be searched.

    Raises:
        ImportError: FAISS is not installed.
    """
    if find_spec("faiss") is None:
        raise ImportError("a motion index needs FAISS: pip install 'lamp_hf[retrieval]'")
