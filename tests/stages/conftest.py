"""A rules folder for each test of a stage."""

from pathlib import Path

import pytest
from calls import House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)
