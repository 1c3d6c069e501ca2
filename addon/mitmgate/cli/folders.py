"""What commands say of a folder of rules that is none."""

from pathlib import Path

from mitmgate.rules.files import TEAMS
from mitmgate.rules.trials import FOLDER


def wrong_folder(folder: Path) -> str | None:
    """What is wrong with it and what to give instead; None if it is a folder."""
    if folder.is_dir():
        return None
    if folder.exists():
        holds = folder.parent
        if holds.name in (TEAMS, FOLDER) and any(holds.parent.glob("*.yaml")):
            return f"{folder} is a file; give the folder of rules that it belongs to: {holds.parent}"
        return f"{folder} is a file; give the folder that holds it: {holds}"
    return f"there is no folder {folder}"
