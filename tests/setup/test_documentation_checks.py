"""The checks of the documentation see what they are there to see."""

from pathlib import Path

from tools import check_docs, documented, import_graph


def test_a_link_to_nowhere_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# The title\n", encoding="utf-8")
    (tmp_path / "a.md").write_text(
        "[good](there.md#the-title)\n\n[gone](missing.md)\n[bad](there.md#other) [web](https://example.org/x)\n",
        encoding="utf-8",
    )
    assert check_docs.broken_links(check_docs.all_pages(tmp_path), tmp_path) == [
        "a.md:3: the link missing.md leads nowhere",
        "a.md:4: the link there.md#other: no such heading there",
    ]


def test_what_stands_in_a_code_block_is_no_link_and_no_heading(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("```\n# piste resolve\n[x](gone)\n```\n", encoding="utf-8")
    pages = check_docs.all_pages(tmp_path)
    assert check_docs.broken_links(pages, tmp_path) == []
    assert check_docs.missing_places(pages, {"piste resolve": "command"}) != []


def test_a_command_has_its_place_in_a_heading_or_a_table_but_not_in_passing(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# `piste resolve`\n| `piste org list` | lists |\nUse piste fetch for that.\n", encoding="utf-8"
    )
    pages = check_docs.all_pages(tmp_path)
    wanted = dict.fromkeys(["piste resolve", "piste org list", "piste fetch", "piste org"], "command")
    assert check_docs.missing_places(pages, wanted) == [
        "command piste fetch: no heading and no table row names it"
    ]


def test_a_command_of_a_group_may_stand_in_code_below_its_groups_heading(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "### `piste org`\n`create NAME`, `keys add\nORG`; members are listed.\n### Other\n`delete`\n",
        encoding="utf-8",
    )
    wanted = ["piste org create", "piste org keys add", "piste org members", "piste org delete"]
    problems = check_docs.missing_places(check_docs.all_pages(tmp_path), dict.fromkeys(wanted, "command"))
    assert [problem.partition(":")[0] for problem in problems] == [
        "command piste org delete",
        "command piste org members",
    ]


def test_every_flag_is_named_or_its_opposite_is(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("`piste apply REF [--no-verify]`\n", encoding="utf-8")
    flags = {"piste apply": {"--verify", "--no-verify", "--store", "--empty-keys"}}
    assert check_docs.missing_flags(check_docs.all_pages(tmp_path), flags) == [
        "piste apply --store: named nowhere"
    ]


def test_errors_and_their_page_must_agree_both_ways(tmp_path: Path) -> None:
    page = tmp_path / "errors.md"
    page.write_text("# Errors\n\n## bad-name\n\n## `gone-by`\n\n## How to read this page\n", encoding="utf-8")
    assert check_docs.error_faults(page, {"bad-name", "not-found"}) == [
        "docs/errors.md: no heading `## not-found`",
        "docs/errors.md: `## gone-by` is an error that the source does not raise",
    ]


def test_references_are_read_from_the_source(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "errors.py").write_text(
        'ERRORS: Final = {"not-found": 404}\nclass HubError(PisteError): ...\n', encoding="utf-8"
    )
    (tmp_path / "other.py").write_text(
        'class LocalError(HubError): ...\nLocalError("disk-full", "x")\nHubError(ref="busy")\n'
        'ValueError("not-ours")\n'
        'environ.get("PISTE_HUB"); f("see PISTE_OTHER there")\n',
        encoding="utf-8",
    )
    assert documented.errors(tmp_path) == {"not-found", "disk-full", "busy"}
    assert documented.variables(tmp_path) == {"PISTE_HUB"}


def test_decisions_are_numbered_without_gaps(tmp_path: Path) -> None:
    for name in ("0001-one.md", "0003-three.md", "notes.md", "README.md"):
        (tmp_path / name).touch()
    assert check_docs.decision_faults(tmp_path) == [
        "docs/decisions/notes.md: not NNNN-title.md",
        "docs/decisions: the numbers have gaps or repeat: [1, 3]",
    ]


def test_the_graph_leaves_out_arrows_that_a_longer_way_shows() -> None:
    edges = {("cli", "host"), ("host", "lib"), ("cli", "lib"), ("host", "nix")}
    assert import_graph.thinned(edges) == {("cli", "host"), ("host", "lib"), ("host", "nix")}


def test_the_graph_loses_no_way_where_it_has_a_circle() -> None:
    circle = {("a", "b"), ("b", "a")}
    assert import_graph.thinned(circle) == circle
    assert len(import_graph.thinned(circle | {("p", "a"), ("p", "b")})) == 3


def test_the_graph_stands_between_its_marks_and_nothing_else_changes() -> None:
    page = f"before\n{import_graph.BEGIN}\nold\n{import_graph.END}\nafter\n"
    fresh = import_graph.with_picture(page, "new")
    assert fresh == f"before\n{import_graph.BEGIN}\n\nnew\n{import_graph.END}\nafter\n"
    assert import_graph.with_picture(fresh, "new") == fresh
