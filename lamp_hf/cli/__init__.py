"""The command `lamp-hf`: one module per command or group of commands."""

from lamp_hf.cli.app import main

__all__ = ["main"]
