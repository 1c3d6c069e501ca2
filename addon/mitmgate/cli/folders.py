"""What commands say of a folder of rules that is none."""

from pathlib import Path


def wrong_folder(folder: Path) -> str | None:
    """What is wrong with it and what to give instead; None if it is a folder."""
    if folder.is_dir():
        return None
    if folder.exists():
        return f"{folder} is a file; give the folder that holds it: {folder.parent}"
    return f"there is no folder {folder}"
