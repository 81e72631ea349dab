"""The documentation is whole: every command, variable and error has its place, every link leads somewhere.

    commands    a heading or a table row in docs/ (or README.md) names it: `piste VERB …`; one of a group
                may also stand in code below the heading of its group: `create NAME` under `piste org`
    flags       each flag of a command is named somewhere in docs/ or README.md
    variables   a heading or a table row, for each PISTE_… that the source reads
    errors      a heading `## ref` in docs/errors.md, and none there that the source does not know
    links       every relative link in a Markdown file, with its anchor
    decisions   docs/decisions/NNNN-title.md, numbered without gaps

What the code has is read from the code: nothing is listed here by hand.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools import import_graph
from tools.documented import commands, errors, variables

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]\[]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True)
class Page:
    """One Markdown file: its prose (without code blocks), and the anchors of its headings."""

    path: Path
    lines: tuple[tuple[int, str], ...]

    def headings(self) -> Iterator[str]:
        for _, line in self.lines:
            if match := HEADING.match(line):
                yield match[2]

    def anchors(self) -> set[str]:
        """Anchors as the usual web views of Git repositories make them; a repeated one gets a number."""
        seen: dict[str, int] = {}
        found = set()
        for heading in self.headings():
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            found.add(f"{slug}-{count}" if count else slug)
        return found

    def sections(self) -> Iterator[tuple[str, str]]:
        """Each heading with the text below it, up to the next heading."""
        heading, text = "", ""
        for _, line in self.lines:
            if match := HEADING.match(line):
                yield heading, text
                heading, text = match[2], ""
            else:
                text += line + "\n"
        yield heading, text

    def places(self) -> Iterator[str]:
        """Headings and table rows: where something is explained, not merely mentioned."""
        for _, line in self.lines:
            if HEADING.match(line) or line.lstrip().startswith("|"):
                yield line


def read_page(path: Path) -> Page:
    """Reads a page and drops its code blocks, which show what they like."""
    lines, in_code = [], False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if FENCE.match(line):
            in_code = not in_code
        elif not in_code:
            lines.append((number, line))
    return Page(path, tuple(lines))


def all_pages(root: Path) -> list[Page]:
    """Every Markdown file of the project itself."""
    folders = ("docs", "src", "examples", "tools", "nix", "benchmarks", "tests")
    paths = [*root.glob("*.md"), *(path for folder in folders for path in (root / folder).rglob("*.md"))]
    return [read_page(path) for path in sorted(paths)]


def broken_links(pages: list[Page], root: Path = ROOT) -> list[str]:
    """Links to files or headings that are not there."""
    anchors = {page.path.resolve(): page.anchors() for page in pages}
    problems = []
    for page in pages:
        for number, line in page.lines:
            for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
                if complaint := _complaint(page.path, target, anchors):
                    problems.append(f"{page.path.relative_to(root)}:{number}: {complaint}")
    return problems


def _complaint(page: Path, target: str, anchors: dict[Path, set[str]]) -> str | None:
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return None  # another site: no check of ours asks the network
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page.resolve()
    if not file.exists():
        return f"the link {target} leads nowhere"
    if anchor and file in anchors and anchor not in anchors[file]:
        return f"the link {target}: no such heading there"
    return None


def missing_places(pages: list[Page], wanted: dict[str, str]) -> list[str]:
    """What has neither a heading nor a table row: `wanted` is name -> what it is."""
    places = [line for page in pages for line in page.places()]
    sections = [section for page in pages for section in page.sections()]
    return [
        f"{kind} {name}: no heading and no table row names it"
        for name, kind in sorted(wanted.items())
        if not any(_names(line, name) for line in places) and not _stands_in_its_group(name, sections)
    ]


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def _stands_in_its_group(name: str, sections: list[tuple[str, str]]) -> bool:
    words = name.split()
    for count in range(len(words) - 1, 1, -1):
        group, member = " ".join(words[:count]), " ".join(words[count:])
        for heading, text in sections:
            if _names(heading, group) and any(_names(code, member) for code in re.findall(r"`[^`]+`", text)):
                return True
    return False


def missing_flags(pages: list[Page], flags: dict[str, set[str]]) -> list[str]:
    """Flags that no line of any page names: `flags` is command -> its flags.

    One of a pair (`--verify`, `--no-verify`) is enough, and `--empty-…` is made for every list by itself.
    """
    text = "\n".join(page.path.read_text(encoding="utf-8") for page in pages)
    return [
        f"{command} {flag}: named nowhere"
        for command, names in sorted(flags.items())
        for flag in sorted(names)
        if not flag.startswith(("--no-", "--empty-"))
        and not _names(text, flag)
        and not _names(text, "--no-" + flag.removeprefix("--"))
    ]


def error_faults(page: Path, known: set[str]) -> list[str]:
    """References without a heading in the page of errors, and headings for references that are no more."""
    if not page.exists():
        return [f"docs/{page.name} is not there; it has to explain {len(known)} errors"]
    listed = {
        match[2].strip("`")
        for _, line in read_page(page).lines
        if (match := HEADING.match(line)) and match[1] == "##"
    }
    listed = {name for name in listed if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)}
    return [f"docs/errors.md: no heading `## {ref}`" for ref in sorted(known - listed)] + [
        f"docs/errors.md: `## {ref}` is an error that the source does not raise"
        for ref in sorted(listed - known)
    ]


def decision_faults(folder: Path) -> list[str]:
    """Decisions are numbered from 0001 on, each once."""
    names = sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")
    problems = [
        f"docs/decisions/{name}: not NNNN-title.md" for name in names if not re.match(r"\d{4}-", name)
    ]
    numbers = [int(name[:4]) for name in names if re.match(r"\d{4}-", name)]
    if numbers != list(range(1, len(numbers) + 1)):
        problems.append(f"docs/decisions: the numbers have gaps or repeat: {numbers}")
    return problems


def main() -> int:
    """Prints every fault by its kind; 1 if there is one."""
    pages = all_pages(ROOT)
    guides = [page for page in pages if page.path.parent == ROOT or (ROOT / "docs") in page.path.parents]
    known = commands()
    wanted = dict.fromkeys(known, "command") | dict.fromkeys(variables(), "variable")
    kinds = {
        "links": broken_links(pages),
        "commands and variables": missing_places(guides, wanted),
        "flags": missing_flags(guides, known),
        "errors": error_faults(ROOT / "docs" / "errors.md", errors()),
        "decisions": decision_faults(ROOT / "docs" / "decisions"),
    }
    for kind, problems in kinds.items():
        if problems:
            print(f"{kind}: {len(problems)} to mend")
            print("".join(f"    {problem}\n" for problem in problems))
    graph = import_graph.main(["--check"])
    return 1 if graph or any(kinds.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
