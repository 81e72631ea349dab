"""Lists the tests of a run that were skipped, by reason: what a green run did not show."""

import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path


def skipped(report: str) -> dict[str, list[str]]:
    """Reason -> names of the tests, from a report in JUnit's form."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for case in ElementTree.fromstring(report).iter("testcase"):
        mark = case.find("skipped")
        if mark is not None:
            reason = mark.get("message") or "no reason given"
            reasons[reason].append(f"{case.get('classname')}.{case.get('name')}")
    return dict(reasons)


def main(path: str) -> int:
    """Prints them; 1 where the run left no report."""
    if not Path(path).is_file():
        print("the tests left no report")
        return 1
    reasons = skipped(Path(path).read_text(encoding="utf-8"))
    for reason, names in sorted(reasons.items()):
        print(f"{len(names)} x {reason}")
        print("".join(f"    {name}\n" for name in names), end="")
    if not reasons:
        print("no test")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
