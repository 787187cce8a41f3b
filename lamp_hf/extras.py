"""Check that optional dependencies are installed before any work starts."""

from importlib.util import find_spec

__all__ = ["require_faiss", "require_pandas", "require_server", "require_studio"]


def require_faiss() -> None:
    """Check that FAISS, which motion search needs, is installed.

    Raises:
        ImportError: FAISS is not installed.
    """
    _require("motion index", {"faiss": "FAISS"}, "'lamp_hf[retrieval]'")


def require_pandas() -> None:
    """Check that pandas, which tables of motions need, is installed.

    Raises:
        ImportError: pandas is not installed.
    """
    _require("Motion.to_pandas", {"pandas": "pandas"}, "pandas")


def require_server() -> None:
    """Check that FastAPI and uvicorn, which `lamp-hf serve` needs, are installed.

    Raises:
        ImportError: One of them is not installed.
    """
    _require("server", {"fastapi": "FastAPI", "uvicorn": "uvicorn"}, "'lamp_hf[serve]'")


def require_studio() -> None:
    """Check that Gradio, which `lamp-hf studio` needs, is installed.

    Raises:
        ImportError: Gradio is not installed.
    """
    _require("studio", {"gradio": "Gradio"}, "'lamp_hf[studio]'")


def _require(thing: str, modules: dict[str, str], install: str) -> None:
    for module, name in modules.items():
        if find_spec(module) is None:
            raise ImportError(f"{thing}: {name} is not installed; run pip install {install}")
