"""Language-motion pretraining (LaMP) for the Hugging Face Hub.

`import lamp_hf` registers the models, processors and pipelines with transformers but does not load them: each name in
`__init__.pyi` is imported on first use.
"""

import ast as _ast
import importlib as _importlib
import os as _os

_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "modeling")):  # a checkout without symlinks
    __path__.append(_os.path.dirname(_here))

from lamp_hf.registration import register_when_transformers_is_imported as _register  # noqa: E402
from lamp_hf.version import __version__  # noqa: E402, F401

with open(_os.path.join(_here, "__init__.pyi"), encoding="utf-8") as _stub:
    _MODULES = {
        alias.name: node.module
        for node in _ast.parse(_stub.read()).body
        if isinstance(node, _ast.ImportFrom) and node.module
        for alias in node.names
    }

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_register()
