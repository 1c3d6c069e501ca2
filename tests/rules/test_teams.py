"""Teams' own rules: `teams/NAME.yaml`, what they may say and how far it reaches."""

from pathlib import Path

import pytest

from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError
from mitmgate.rules.schema import Rules

MAIN = """\
version: 1
providers: {openai: {region: us-east}, groq: {region: eu}}
guardrails: {no-pii: {check: pii}}
projects:
  support: {identify: {header: {x-app: support}}}
  search: {identify: {header: {x-app: search}}, allow: {providers: ["gro*"]}}
  sales: {identify: {header: {x-app: sales}}, allow: {providers: [groq], regions: [eu]}}
"""
ROUTE = "routes:\n- {name: chat, targets: [{provider: openai}], guardrails: [no-pii]}\n"
KEYS = "a team has scope, models, routes, aliases, guardrails and prompts"


def loaded(folder: Path, main: str = MAIN, **teams: str) -> Rules:
    (folder / "rules.yaml").write_text(main, encoding="utf-8")
    if teams:
        (folder / "teams").mkdir(exist_ok=True)
    for name, text in teams.items():
        (folder / "teams" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load(folder, {}, ("openai", "groq"))


def problems(folder: Path, main: str = MAIN, **teams: str) -> list[str]:
    with pytest.raises(RulesError) as caught:
        loaded(folder, main, **teams)
    return [str(problem) for problem in caught.value.problems]


def test_a_team(tmp_path: Path) -> None:
    text = """\
version: 1
scope: {project: [support, search]}
models: {fast: {targets: [{provider: groq, model: llama}]}}
aliases: {gpt-4: fast}
guardrails: {polite: {check: content_moderation}}
prompts: {source: files}
routes:
- name: chat
  match: {project: support, model: "gpt*"}
  targets: [{provider: openai, set: {stop: ~}}]
  guardrails: [polite, {use: no-pii, action: redact}]
"""
    rules = loaded(tmp_path, a=text, b="scope: {project: sales}\nroutes: [{name: chat, targets: [{provider: groq}]}]\n")
    team = rules.teams["a"]
    assert team.scope.project == ("support", "search")
    assert [use.use for use in team.routes[0].guardrails] == ["polite", "no-pii"]
    assert (list(team.models), list(team.aliases), list(team.guardrails)) == (["fast"], ["gpt-4"], ["polite"])
    assert team.routes[0].targets[0].force == {"stop": None}
    assert rules.teams["b"].scope.project == ("sales",)
    assert rules.routes == ()
    assert rules.where["teams.a.routes[0]"] == "teams/a.yaml:8"
    assert rules.where["teams.b.routes[0].name"] == "teams/b.yaml:2"
    assert rules.where["teams.a"] == "teams/a.yaml:1"


def test_a_file_that_says_nothing_lacks_its_scope(tmp_path: Path) -> None:
    """A team whose file was emptied by mistake would otherwise be gone without a word."""
    assert problems(tmp_path, a="", b="# nothing yet\n") == [
        "teams/a.yaml:1:1: teams.a.scope: missing", "teams/b.yaml:1:1: teams.b.scope: missing"
    ]


def test_the_order_of_the_names_does_not_matter(tmp_path: Path) -> None:
    one, two = "scope: {project: support}\n" + ROUTE, "scope: {project: sales}\nmodels: {m: {targets: [{provider: groq}]}}\n"
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    first, second = loaded(tmp_path / "x", a=one, b=two).teams, loaded(tmp_path / "y", b=one, a=two).teams
    assert (first["a"], first["b"]) == (second["b"], second["a"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ROUTE, "teams/a.yaml:1:1: teams.a.scope: missing"),
        ("scope:\n" + ROUTE, "teams/a.yaml:1:1: teams.a.scope: has no value: write one, or leave the key out"),
        ("scope: support\n", "teams/a.yaml:1:8: teams.a.scope: expected a map, found `support`"),
        ("scope: {}\n", "teams/a.yaml:1:1: teams.a.scope.project: missing"),
        ("scope: {project: []}\n", "teams/a.yaml:1:18: teams.a.scope.project: an empty list: name at least one"),
        ("scope: {project: 'sup*'}\n",
         "teams/a.yaml:1:18: teams.a.scope.project: expected a name of 1 to 64 letters, digits, `.`, `_` or `-`, found `sup*`"),
        ("scope: {project: suport}\n",
         "teams/a.yaml:1:18: teams.a.scope.project: unknown project `suport`; did you mean `support`?"),
        ("scope: {project: [support, xyzzy]}\n", "teams/a.yaml:1:28: teams.a.scope.project[1]: unknown project `xyzzy`; "
         "it has to stand under `projects` of the main rules"),
        ("scope: {project: unknown}\n", "teams/a.yaml:1:18: teams.a.scope.project: unknown project `unknown`; "
         "it has to stand under `projects` of the main rules"),
        ("scope: {project: [sales, sales]}\n", "teams/a.yaml:1:26: teams.a.scope.project[1]: "
         "the project `sales` is in a scope already, at teams/a.yaml:1:19: scopes never overlap"),
        ("scope: {project: sales, tenant: x}\n",
         "teams/a.yaml:1:25: teams.a.scope.tenant: unknown key; expected one of project"),
        ("version: 2\nscope: {project: sales}\n",
         "teams/a.yaml:1:10: teams.a.version: expected 1, the only version there is, found 2"),
        ("scope: {project: sales}\nroute: []\n", "teams/a.yaml:2:1: teams.a.route: unknown key; did you mean `routes`?"),
        ("scope: {project: support}\nroutes: [{name: a, targets: [{provider: opnai}]}]\n",
         "teams/a.yaml:2:41: teams.a.routes[0].targets[0].provider: unknown provider `opnai`; did you mean `openai`?"),
        ("scope: {project: support}\nroutes: [{name: a, targets: [{provider: groq}], guardrails: [x]}]\n",
         "teams/a.yaml:2:62: teams.a.routes[0].guardrails[0]: unknown guardrail `x`; it has to stand under `guardrails`"),
        ("scope: {project: support}\nguardrails: {no-pii: {check: pii}}\n",
         "teams/a.yaml:2:14: teams.a.guardrails.no-pii: the main rules have a guardrail of this name, at rules.yaml:3:14: "
         "give the team's another"),
        ("scope: {project: support}\nguardrails: {g: {check: schema_validation, schema: ../../key}}\n",
         "teams/a.yaml:2:52: teams.a.guardrails.g.schema: expected a path inside the rules folder, such as "
         "schemas/answer.json, found `../../key`"),
        ("scope: {project: support}\nroutes: [{name: a, match: {project: sales}, targets: [{provider: groq}]}]\n",
         "teams/a.yaml:2:37: teams.a.routes[0].match.project: `sales` is outside the team's scope: this would never match"),
        ("scope: {project: support}\naliases: {a: {model: b, match: {project: [support, 'x*', search]}}}\n",
         "teams/a.yaml:2:58: teams.a.aliases.a.match.project[2]: `search` is outside the team's scope: this would never match"),
        ("scope: {project: support}\nroutes:\n" + "- {name: a, targets: [{provider: groq}]}\n" * 2,
         "teams/a.yaml:4:10: teams.a.routes[1].name: the name `a` is given twice, first at teams/a.yaml:3:10"),
        ("scope: {project: support}\nprompts: {source: langfuse}\n",
         "teams/a.yaml:2:19: teams.a.prompts.source: expected files, found `langfuse`"),
        ("scope: {project: support}\nprompts: {secret_key: {value: hunter2}}\n",
         "teams/a.yaml:2:11: teams.a.prompts.secret_key: unknown key; expected one of source"),
        ("- a\n", "teams/a.yaml:1:1: expected a map of keys such as `routes:` at the top of the file"),
        ("scope: [\n", "teams/a.yaml:2:1: the file ends where a value is expected: a list or map is not closed"),
    ],
)
def test_what_a_team_gets_wrong(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, a=text) == [expected]


NOT_A_TEAMS = sorted(Rules.model_fields.keys() - {"version", "models", "routes", "aliases", "guardrails", "prompts"})


@pytest.mark.parametrize("key", NOT_A_TEAMS)
def test_what_only_the_main_rules_may_say(tmp_path: Path, key: str) -> None:
    """Whatever stands under it, secrets included: nothing of it is read."""
    assert problems(tmp_path, a=f"scope: {{project: support}}\n{key}: {{value: '${{HUNTER2}}'}}\n") == [
        f"teams/a.yaml:2:1: teams.a.{key}: only the main rules may say this; {KEYS}"
    ]


def test_scopes_never_overlap(tmp_path: Path) -> None:
    assert problems(tmp_path, a="scope: {project: [support, sales]}\n", b="scope:\n  project:\n  - search\n  - sales\n") == [
        "teams/b.yaml:4:5: teams.b.scope.project[1]: "
        "the project `sales` is in a scope already, at teams/a.yaml:1:28: scopes never overlap"
    ]


@pytest.mark.parametrize(
    "where",
    [
        "targets: [{provider: openai}]",
        "targets: [{provider: groq}], fallback: [{provider: openai}]",
        "targets: [{provider: groq}], hedge: {after: 1s, targets: [{provider: openai}]}",
        "targets: [{provider: groq}], shadow: {share: 5%, targets: [{provider: openai}]}",
        "targets: [{provider: groq}], canary: {share: 5%, targets: [{provider: openai}]}",
    ],
)
@pytest.mark.parametrize("owner", ["routes: [{name: r, %s}]\n", "models: {m: {%s}}\n"])
def test_providers_that_no_project_of_the_scope_is_granted(tmp_path: Path, where: str, owner: str) -> None:
    text = "scope: {project: [search, sales]}\n" + owner % where
    [problem] = problems(tmp_path, a=text)
    assert problem.startswith(f"teams/a.yaml:2:{text.splitlines()[1].index('openai') + 1}: teams.a.")
    assert problem.endswith(
        ".provider: no project of the team's scope may use the provider `openai`: see rules.yaml:6:57"
    )
    (tmp_path / "teams" / "a.yaml").write_text(text.replace("search,", "support,"))
    assert list(load(tmp_path, {}, ("openai", "groq")).teams) == ["a"]


@pytest.mark.parametrize(
    ("scope", "target", "told"),
    [
        ("sales", "groq", None),
        ("[sales, support]", "openai", None),
        ("sales", "us", "the provider `us`, which is in the region `us-west`: see rules.yaml:5:19"),
        ("sales", "nowhere", "the provider `nowhere`, which has no `region`: see rules.yaml:5:19"),
        ("[sales, search]", "us", "the provider `us`, which is in the region `us-west`: see rules.yaml:5:19"),
        ("[search, sales]", "hidden", "the provider `hidden`, which is in the region `${NOT_SET:-ap}`: see rules.yaml:6:20"),
        ("search", "us", "the provider `us`: see rules.yaml:6:20"),
    ],
)
def test_regions_that_no_project_of_the_scope_is_granted(
    tmp_path: Path, scope: str, target: str, told: str | None
) -> None:
    main = (
        "version: 1\n"
        "providers: {openai: {region: us}, groq: {region: eu-west}, us: {base_url: https://a.b, region: us-west},\n"
        '  nowhere: {base_url: https://a.b}, hidden: {base_url: https://a.b, region: "${NOT_SET:-ap}"}}\n'
        "projects:\n  sales: {allow: {regions: [eu-*, asia]}}\n  search: {allow: {providers: groq}}\n"
        "  support: {allow: {models: x}}\n"
    )
    team = f"scope: {{project: {scope}}}\nroutes: [{{name: r, targets: [{{provider: {target}}}]}}]\n"
    if told is None:
        assert list(loaded(tmp_path, main, a=team).teams) == ["a"]
        return
    assert problems(tmp_path, main, a=team) == [
        f"teams/a.yaml:2:41: teams.a.routes[0].targets[0].provider: no project of the team's scope may use {told}"
    ]


def test_a_name_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "a team.yaml").write_text("scope: {project: support}\n")
    assert problems(tmp_path) == [
        'teams/a team.yaml:1:1: teams["a team"]: expected a name of 1 to 64 letters, digits, `.`, `_` or `-` as the key'
    ]


def test_teams_in_the_main_rules(tmp_path: Path) -> None:
    assert problems(tmp_path, MAIN + "teams: {a: {scope: {project: support}}}\n", b="scope: {project: sales}\n") == [
        "rules.yaml:8:1: teams: teams have files of their own: write `teams/NAME.yaml`"
    ]


def test_the_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, MAIN + "routs: []\n", a="scope: {project: suport}\n", b="scope: {project: sales}\nlisten: {}\n")
    assert [problem.split(": ")[0] for problem in found] == ["rules.yaml:8:1", "teams/a.yaml:1:18", "teams/b.yaml:2:1"]


def test_two_teams_may_give_the_same_names(tmp_path: Path) -> None:
    text = "models: {m: {targets: [{provider: groq}]}}\naliases: {a: m}\nguardrails: {g: {check: pii}}\n"
    teams = loaded(tmp_path, a="scope: {project: support}\n" + text, b="scope: {project: sales}\n" + text).teams
    assert teams["a"].models == teams["b"].models


def test_links_and_what_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    (folder / "teams").mkdir(parents=True)
    (tmp_path / "outside.yaml").write_text("scope: {project: support}\n")
    (folder / "teams" / "a.yaml").symlink_to("../../outside.yaml")
    (folder / "teams" / "b.yaml").mkdir()
    (folder / "teams" / "inside.yaml").symlink_to("../support.txt")
    (folder / "support.txt").write_text("scope: {project: support}\n")
    (folder / "teams" / ".hidden.yaml").write_text("scope: [")
    (folder / "teams" / "deeper").mkdir()
    (folder / "teams" / "deeper" / "c.yaml").write_text("scope: [")
    assert problems(folder) == [
        "teams/a.yaml:1:1: a link that leads out of the rules folder",
        "teams/b.yaml:1:1: not a regular file",
    ]


def test_a_folder_of_teams_that_leads_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "a.yaml").write_text("scope: {project: support}\n")
    (folder / "rules.yaml").write_text(MAIN)
    (folder / "teams").symlink_to("../others")
    assert problems(folder) == ["teams/a.yaml:1:1: a link that leads out of the rules folder"]
    (folder / "teams").unlink()
    (folder / "teams").symlink_to("gone")
    assert problems(folder) == ["teams:1:1: the folder of the teams' rules cannot be read: No such file or directory"]
    (folder / "teams").unlink()
    (folder / "teams").write_text("scope: {project: support}\n")
    assert problems(folder) == ["teams:1:1: the folder of the teams' rules cannot be read: Not a directory"]


def test_kubernetes_mounts_of_teams(tmp_path: Path) -> None:
    mount = tmp_path / "teams"
    (mount / "..2026").mkdir(parents=True)
    (mount / "..2026" / "a.yaml").write_text("scope: {project: support}\n")
    (mount / "..data").symlink_to("..2026")
    (mount / "a.yaml").symlink_to("..data/a.yaml")
    assert list(loaded(tmp_path).teams) == ["a"]
