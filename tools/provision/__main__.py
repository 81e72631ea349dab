"""`python -m tools.provision [--dev] [--nix SUITE]...`: does what is not done yet; silent if all is."""

import argparse
import fcntl
import sys
import time

from tools.provision.place import CACHE, SetupError, say
from tools.provision.portable_nix import ALL_SUITES, ensure_default_nix, try_nix
from tools.provision.python_env import ensure_environment
from tools.provision.system_nix import choose_nix


def main() -> int:
    """Runs the steps in order; two set-ups at once wait for one another."""
    parser = argparse.ArgumentParser(prog="tools/setup", description="Set up this clone.")
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    parser.add_argument(
        "--nix", action="append", default=[], choices=ALL_SUITES, help="also this suite's Nix"
    )
    arguments = parser.parse_args()
    CACHE.mkdir(exist_ok=True)
    start = time.monotonic()
    with (CACHE / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            ensure_environment(arguments.dev)
            ensure_default_nix()
            for suite in arguments.nix:
                try_nix(suite, "doing without it")
            choose_nix()
        except SetupError as error:
            say(f"set-up stopped: {error}")
            return 1
    if (took := time.monotonic() - start) > 1:
        say(f"set-up done in {took:.0f} s")
    return 0


sys.exit(main())
