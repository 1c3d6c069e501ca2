"""Rules written for a test: loaded, or their problems told."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError
from mitmgate.rules.schema import Rules


def rules(folder: Path, environ: Mapping[str, str] | None = None, **files: str) -> Rules:
    """What `folder` means once it holds the files, each given by its name without `.yaml`."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8", newline="")
    return load(folder, environ or {}, ("openai", "groq"))


def problems(folder: Path, environ: Mapping[str, str] | None = None, **files: str) -> list[str]:
    """What is wrong with `folder` once it holds the files."""
    with pytest.raises(RulesError) as caught:
        rules(folder, environ, **files)
    return [str(problem) for problem in caught.value.problems]
