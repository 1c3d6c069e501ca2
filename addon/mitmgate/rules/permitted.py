"""What a project's calls may ask for themselves: `client_may` of all, tightened by the project's own (DESIGN §4)."""

from typing import Any

from mitmgate.rules.schema import Rules


def client_may(rules: Rules, project: str) -> dict[str, Any]:
    """By key of `client_may`. That a project's own only tightens was checked when the rules were loaded."""
    held = rules.client_may.model_dump()
    own = rules.projects[project].client_may if project in rules.projects else None
    return held if own is None else {**held, **own.model_dump(include=own.model_fields_set)}
