"""Whose call it is: what recognises a caller, and who may say so himself."""

import pytest

from mitmgate.routing.callers import Callers, compile_callers
from mitmgate.routing.match import Asked
from mitmgate.rules.schema import Project as Rule

ID = "6f1c2f7e-6d0b-4c0e-9a39-7f3a3d0f5b11"
CALLERS: Callers = compile_callers(
    {
        name: Rule.model_validate(rule)
        for name, rule in {
            "by-network": {"identify": {"client": ["10.1.0.0/16", "fd00::/8"]}, "tenant": "t1"},
            "by-header": {"identify": {"header": {"X-App": ["support", "help*"]}}},
            "by-user": {"identify": {"proxy_user": "team-*"}},
            "by-both": {"identify": {"client": "10.2.0.0/16", "header": {"x-app": "batch"}}},
            "named": {"id": ID, "tenant": "t2"},
            "also-by-network": {"identify": {"client": "10.0.0.0/8"}},
        }.items()
    }
)


def project(
    client: str = "192.0.2.1", headers: dict[str, str] | None = None, user: str | None = None, claimed: str | None = None
) -> str | None:
    asked = Asked("h", "/", "", None, headers or {}, client)
    found = CALLERS.project_of(asked, user, claimed)
    return found.name if found else None


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (project(), None),
        (project("10.1.2.3"), "by-network"),                            # the first in the order of the rules
        (project("::ffff:10.1.2.3"), "by-network"),
        (project("fd00::1"), "by-network"),
        (project("10.9.9.9"), "also-by-network"),
        (project(headers={"x-app": "support"}), "by-header"),
        (project(headers={"x-app": "helpdesk"}), "by-header"),
        (project(headers={"x-app": "other"}), None),
        (project(headers={"x-app": "batch"}), None),                    # all that is given must hold
        (project("10.2.0.1", {"x-app": "batch"}), "by-both"),
        (project("10.2.0.1"), "also-by-network"),
        (project(user="team-a"), "by-user"),
        (project(user="somebody"), None),
        (project(claimed="named"), "named"),
        (project(claimed=ID), "named"),
        (project(claimed=ID.upper()), None),
        (project(claimed="by-network"), None),                          # it recognises its callers: saying so is not enough
        (project(claimed="nobody"), None),
        (project("10.1.2.3", claimed="named"), "by-network"),           # what is recognised is not argued with
    ],
)
def test_whose_call_it_is(found: str | None, name: str | None) -> None:
    assert found == name
