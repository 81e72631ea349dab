"""The way of a release, from a flake to a running host and back, with the real commands. `make demo` runs it.

Everything happens in one scratch folder and on loopback, and is gone afterwards (`--keep` leaves the folder).
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from examples.demo import scratch, terminal
from examples.demo.actors import Actor, HubProcess, StopError
from examples.demo.ending import received, sent, show_ending
from examples.demo.limits import show_limits
from examples.demo.service import page_title

SYSTEM = "nixosConfigurations.web"
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REFERENCE = f"acme/web/1#{SYSTEM}"


class Demo:
    """Three parties: whoever runs the hub, the CI that publishes, and a host."""

    def __init__(self, folder: Path) -> None:
        self.operator = Actor("operator", folder)
        self.hub = HubProcess(self.operator)
        self.folder = folder
        self.publisher = Actor("ci", folder)
        self.host = Actor("host", folder)
        self.port = 0

    def play(self) -> None:
        self.start_the_hub()
        self.publish_the_first_release()
        self.give_the_host_a_token()
        self.bring_it_to_life()
        self.roll_forward()
        self.survive_a_bad_release()
        self.roll_back()
        terminal.heading(8, "What the host's token can't do")
        show_limits(self.hub, self.operator, self.token(), scratch.system_type())
        terminal.heading(9, "What took how long, and what went over the wire")
        show_ending(self.publisher, self.host)

    def start_the_hub(self) -> None:
        terminal.heading(1, "A hub")
        terminal.explain(
            "One process, one folder; SQLite and plain files until you want PostgreSQL and more processes."
        )
        self.hub.start()
        terminal.said(f"It serves at {self.hub.url}")
        address = {"PISTE_HUB": self.hub.url}
        self.operator.extra = address | {"PISTE_TOKEN_FILE": "admin.token"}
        self.publisher.extra = self.operator.extra | {"GITHUB_OUTPUT": str(self.folder / "ci-output")}
        self.host.extra = address
        self.operator.run("piste hub admin-token --data hub", into="admin.token")
        terminal.command(f"export PISTE_HUB={self.hub.url} PISTE_TOKEN_FILE=admin.token")
        self.operator.run("piste org create acme")

    def publish_the_first_release(self) -> None:
        terminal.heading(2, "CI: evaluate and build once, publish under a version")
        terminal.explain(
            "examples/system is a flake in the shape of NixOS: a web service, its unit, an activation."
        )
        scratch.lay_out_system(self.publisher)
        self.publish("1.0.0")

    def give_the_host_a_token(self) -> None:
        terminal.heading(3, "A token for one host: one output of one project, within one range of versions")
        self.operator.run(
            f"piste token create --kind resolve-only --org acme --project acme/web --requirement 1"
            f" --attribute {SYSTEM} --description 'the web server'",
            into="host.token",
        )

    def bring_it_to_life(self) -> None:
        terminal.heading(4, "The host: no flake, no evaluation, no build")
        terminal.explain(
            "It logs in, and believes from then on what the organization's key has signed. The warning is"
            " right: this small system holds no piste; a real one would."
        )
        self.port = scratch.give_port(self.host)
        terminal.command(f"export PISTE_HUB={self.hub.url}")
        self.host.run("piste login --token-file host.token")
        self.host.run(f"piste resolve {REFERENCE}", step="resolve")
        self.apply("apply 1.0.0")
        self.look("Version 1")

    def roll_forward(self) -> None:
        terminal.heading(5, "A new release: the same command brings it")
        self.change_page("Version 1", "Version 2")
        self.publish("1.1.0")
        self.host.run(f"piste diff {REFERENCE}", step="diff")
        self.apply("apply 1.1.0")
        self.look("Version 2")

    def survive_a_bad_release(self) -> None:
        terminal.heading(6, "A release that does not start: the host goes back by itself, and says so")
        terminal.command(
            "git -C system mv page/index.html page/lost.html && git -C system commit -m 'Lose the page'"
        )
        (self.folder / "system/page/index.html").rename(self.folder / "system/page/lost.html")
        scratch.commit(self.publisher, "Lose the page")
        self.publish("1.2.0")
        self.apply("apply 1.2.0 and undo it", code=3)
        self.look("Version 2")

    def roll_back(self) -> None:
        terminal.heading(7, "Back to an older one, whenever you want")
        self.host.run("piste rollback", step="rollback")
        self.look("Version 1")
        self.host.run("piste history")

    def publish(self, version: str) -> None:
        step = f"publish {version}"
        self.publisher.run(f"piste publish system --name acme/web --version {version}", step=step)
        self.publisher.wire[step] = sent(self.folder / "ci-output")

    def apply(self, step: str, code: int = 0) -> None:
        self.host.run(f"piste apply nixos {REFERENCE}", code=code, step=step)
        self.host.wire[step] = received(self.host)

    def change_page(self, old: str, new: str) -> None:
        page = self.folder / "system/page/index.html"
        edit = f"sed -i 's/{old}/{new}/' system/page/index.html"
        terminal.command(f"{edit} && git -C system commit -a -m '{new}'")
        page.write_text(page.read_text().replace(old, new))
        scratch.commit(self.publisher, new)

    def look(self, expected: str) -> None:
        """Ask the service that the host runs, as a visitor would."""
        title = page_title(self.port)
        terminal.verdict(title == expected, f"http://127.0.0.1:{self.port}/ answers: {title}")
        if title != expected:
            raise StopError(f"The service should answer {expected!r}.")

    def token(self) -> str:
        return (self.folder / "host.token").read_text().strip()

    def end(self) -> None:
        try:
            scratch.stop_service(self.host)
        finally:
            self.hub.stop()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the scratch folder for you to look around in"
    )
    keep = parser.parse_args().keep
    for number in _ENDINGS:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        scratch.check_machine()
    except StopError as error:
        terminal.problem(str(error))
        return 1
    folder = scratch.make()
    demo = Demo(folder)
    began = time.monotonic()
    try:
        demo.play()
    except StopError as error:
        terminal.problem(f"The demo stopped: {error}")
        return 1
    finally:
        for number in _ENDINGS:  # once is enough: what follows takes away what would be left
            signal.signal(number, signal.SIG_IGN)
        try:
            demo.end()
        finally:
            if not keep:
                scratch.remove(folder)
    left = f"All of it is in {folder}." if keep else "Nothing of it is left."
    terminal.out("")
    terminal.explain(f"The demo took {time.monotonic() - began:.0f} seconds. {left}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
