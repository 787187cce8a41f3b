"""Check that optional dependencies are installed before any work starts."""

from importlib.util import find_spec

__all__ = ["require_faiss"]


def require_faiss() -> None:
    """Check that FAISS, which motion search needs, is installed.

    Raises:
        ImportError: FAISS is not installed.
    """
    if find_spec("faiss") is None:
        raise ImportError("motion index: FAISS is not installed; run pip install 'lamp_hf[retrieval]'")
