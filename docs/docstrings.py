"""Extension of griffe, which reads the docstrings for mkdocstrings, for the conventions of this package.

- [`Motion`], in the style of transformers, becomes a link to `lamp_hf.Motion`.
- (T1), the number of a difference from the released code, becomes a link to its explanation.
- Configurations get the signature, with defaults, that their decorator gives them.
"""

import re
from typing import Any

import griffe

import lamp_hf

_REFERENCE = re.compile(r"\[`(?P<name>[\w.]+)`\](?!\[|\()")
_NUMBER = re.compile(r"(?<=\()([VLT]\d)(?=\))")


class Docstrings(griffe.Extension):
    """Rewrites docstrings and adds signatures."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Add links to the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            text = _REFERENCE.sub(_link, obj.docstring.value)
            obj.docstring.value = _NUMBER.sub(lambda match: f"[{match[1]}][{match[1].lower()}]", text)

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Add the parameters of a dataclass to a configuration, which `strict` makes one."""
        if not any(str(decorator.value) == "strict" for decorator in cls.decorators):
            return
        fields = [
            griffe.Parameter(
                name, annotation=member.annotation, default=member.value, kind=griffe.ParameterKind.keyword_only
            )
            for name, member in cls.attributes.items()
            if member.annotation is not None and "property" not in member.labels
        ]
        this = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        init = griffe.Function("__init__", parent=cls, parameters=griffe.Parameters(this, *fields), returns="None")
        cls.set_member("__init__", init)


def _link(match: re.Match[str]) -> str:
    name = match["name"]
    public = name.removeprefix("lamp_hf.")
    if public.split(".")[0] in lamp_hf.__all__:
        return f"[`{name}`][lamp_hf.{public}]"
    return f"`{name}`"
