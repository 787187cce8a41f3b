"""The command `lamp-hf`, a module for each command or group of commands."""

from lamp_hf.cli.app import main

__all__ = ["main"]
