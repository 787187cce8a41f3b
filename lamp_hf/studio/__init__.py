"""The studio of `lamp-hf studio`: a page to write, edit, search and download motions, for several users at once."""

from .launch import launch
from .models import StudioModels, load_models

__all__ = ["StudioModels", "launch", "load_models"]
