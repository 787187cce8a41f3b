"""Every model of the package passes the shared tester; parts of them are exported; their examples run."""

import pytest
import torch

from .common import ModelTester


class TestModels(ModelTester):
    pass
