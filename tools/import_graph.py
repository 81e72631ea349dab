"""The picture of who imports whom, made from the code: it stands in ARCHITECTURE.md between two marks.

`python -m tools.import_graph` prints it, `--write` puts it in its place, `--check` tells if it is current.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "piste"
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- import graph: made by `make fmt`, not by hand -->"
END = "<!-- end of the import graph -->"
Edges = set[tuple[str, str]]


def part_of(module: str) -> str | None:
    """The part of the picture that a module belongs to: a package, and within the hub a stage."""
    names = module.split(".")
    if names[0] != "piste" or len(names) < 2:
        return None
    if names[1] == "hub":
        is_stage = len(names) > 2 and (SOURCE / "hub" / names[2]).is_dir()
        return f"hub.{names[2]}" if is_stage else "hub"
    return names[1]


def imports_of(file: Path) -> set[str]:
    """The modules of ours that a file names in its imports, wherever in the file they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.startswith("piste.")}


def edges(source: Path = SOURCE) -> Edges:
    """Every pair of parts of which the first imports the second."""
    found: Edges = set()
    for file in source.rglob("*.py"):
        here = part_of(".".join(("piste", *file.relative_to(source).with_suffix("").parts)))
        for name in imports_of(file):
            there = part_of(name)
            if here and there and here != there:
                found.add((here, there))
    return found


def thinned(all_edges: Edges) -> Edges:
    """The same without the arrows that a longer way already shows: what is left can be read.

    One after the other, each against what is left by then: in a circle two arrows would else each be left out
    for the sake of the other.
    """
    left = set(all_edges)
    for edge in sorted(all_edges):
        left.remove(edge)
        if not _reaches(left, *edge):
            left.add(edge)
    return left


def _reaches(all_edges: Edges, start: str, end: str) -> bool:
    seen, waiting = set(), [start]
    while waiting:
        here = waiting.pop()
        if here == end:
            return True
        if here not in seen:
            seen.add(here)
            waiting.extend(there for here_too, there in all_edges if here_too == here)
    return False


def picture(all_edges: Edges) -> str:
    """Two Mermaid graphs: the packages, and the stages within the hub."""
    packages = {(start.partition(".")[0], end.partition(".")[0]) for start, end in all_edges}
    stages = {
        (start.removeprefix("hub."), end.removeprefix("hub."))
        for start, end in all_edges
        if start.startswith("hub.") and end.startswith("hub.")
    }
    return (
        "Packages (an arrow says: imports; what a longer way shows already is left out):\n\n"
        + _mermaid(thinned({(start, end) for start, end in packages if start != end}))
        + "\nStages within the hub (its composition root, which imports all of them, is left out):\n\n"
        + _mermaid(thinned(stages))
    )


def _mermaid(arrows: Edges) -> str:
    lines = "".join(f"    {start} --> {end}\n" for start, end in sorted(arrows))
    return f"```mermaid\ngraph TD\n{lines}```\n"


def with_picture(page: str, text: str) -> str:
    """The page with the picture between its marks."""
    if BEGIN not in page or END not in page:
        raise SystemExit(f"ARCHITECTURE.md lacks the marks of the import graph:\n{BEGIN}\n{END}")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Prints, writes or checks."""
    text = picture(edges())
    if not arguments:
        print(text)
        return 0
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    fresh = with_picture(page, text)
    if arguments == ["--write"] and fresh != page:
        PAGE.write_text(fresh, encoding="utf-8")
    elif arguments == ["--check"] and fresh != page:
        print("ARCHITECTURE.md: the import graph is not that of the code any more; run: make fmt")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
