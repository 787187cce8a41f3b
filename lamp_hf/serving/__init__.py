"""Serve the pipelines over HTTP: the server of `lamp-hf serve`, and the handler for Inference Endpoints."""

from .app import create_app
from .endpoint import EndpointHandler
from .limits import Limits

__all__ = ["EndpointHandler", "Limits", "create_app"]
