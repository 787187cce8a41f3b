"""Links in docstrings: [`Motion`], as transformers writes it, becomes a link to the page of `lamp_hf.Motion`.

An extension of griffe, which reads the docstrings for mkdocstrings.
"""

import re
from typing import Any

import griffe

import lamp_hf

_REFERENCE = re.compile(r"\[`(?P<name>[\w.]+)`\](?!\[|\()")


class CrossReferences(griffe.Extension):
    """Links public names, and leaves all others as code."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _REFERENCE.sub(_link, obj.docstring.value)


def _link(match: re.Match[str]) -> str:
    name = match["name"]
    public = name.removeprefix("lamp_hf.")
    if public.split(".")[0] in lamp_hf.__all__:
        return f"[`{name}`][lamp_hf.{public}]"
    return f"`{name}`"
