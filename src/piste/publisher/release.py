"""A publication from its beginning to its end: the steps in order, each timed.

    source → open → evaluate → build → closure → declare → upload → tarball → (sign →) finish

The hub makes the release visible at the last step or not at all. What fails before leaves nothing visible.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from piste.client.api import HubClient, publication_path
from piste.client.identity import CiIdentity, find_identity
from piste.lib.clock import HOUR, Clock, wall_clock
from piste.lib.errors import AccessError, PisteError, UnreachableError
from piste.lib.process import CommandError
from piste.nix.narinfo import PathInfo
from piste.nix.store_path import StorePath
from piste.nixcmd.daemon import Daemon
from piste.nixcmd.flake import FlakeMetadata, StaleLockError, buildable_systems, flake_metadata
from piste.nixcmd.store import Store
from piste.publisher import build, closure, signing, source, upload, upstream
from piste.publisher.evaluate import evaluate_flake
from piste.publisher.records import EvaluatedOutput, Outcome, Progress, Wish
from piste.publisher.sign_in import sign_in
from piste.semver.version import Version
from piste.wire.identities import NewSession
from piste.wire.organizations import Upstream
from piste.wire.publication import (
    Declaration,
    Declared,
    DeclaredOutput,
    Metadata,
    OpenPublication,
    Publication,
    Published,
)
from piste.wire.releases import NewProject

_DECLARED_AT_ONCE = 5_000  # paths; 32 MiB is the most that the hub takes


def publish(
    client: HubClient, store: Store, wish: Wish, progress: Progress, *, clock: Clock = wall_clock
) -> Outcome:
    """Publish a flake; the Outcome tells what came of it. Without a token the identity of the CI counts."""
    identity = find_identity() if not client.logged_in else None
    if not client.logged_in and identity is None:
        raise AccessError(
            "credential-missing",
            "Publishing needs a token, or a CI whose identity the project trusts.",
            hint="Run `piste login`, set PISTE_TOKEN_FILE, or see `piste trust`.",
        )
    return _Publishing(client, store, wish, progress, clock, identity).run()


class _Publishing:
    """One run. The fields are what the steps have found so far."""

    def __init__(
        self,
        client: HubClient,
        store: Store,
        wish: Wish,
        progress: Progress,
        clock: Clock,
        identity: CiIdentity | None,
    ) -> None:
        self._client = client
        self._store = store
        self._wish = wish
        self._progress = progress
        self._clock = clock
        self._identity = identity
        self._seconds: dict[str, float] = {}

    def run(self) -> Outcome:
        with self._timed("source"):
            self._source = source.read_source(self._wish)
            self._flake = self._read_flake()
        with self._timed("open"):
            self._sign_in()
            self._publication = self._open()
        try:
            signing.check_keys(self._publication, self._wish.signing_keys)
            return self._fill()
        except UnreachableError:
            raise  # the hub can't be told; what was staged expires by itself
        except BaseException:
            self._try_abandon()
            raise

    def _fill(self) -> Outcome:
        self._progress.step("Evaluating the flake's outputs")
        with self._timed("evaluate"):
            evaluation = evaluate_flake(
                self._store, self._flake.url, pure=self._source.pure, extra=self._wish.attributes
            )
            chosen = build.choose(self._wish, evaluation, buildable_systems(self._store))
            chosen_broken = [
                item for item in evaluation.broken if item.attribute not in self._wish.attributes
            ]
            build.report_broken(self._wish, chosen_broken, self._progress)
            if not evaluation.outputs:
                self._progress.warn(
                    "No output of the standard kinds was found: the release will hold the source alone."
                )
        with Daemon(self._store) as daemon:
            with self._timed("build"):
                built = build.build(self._store, daemon, self._wish, chosen, self._progress)
            with self._timed("closure"):
                infos = closure.read_closure(daemon, built)
                if not self._wish.allow_source:
                    closure.check_no_source(infos, built, self._flake)
            self._renew()
            outcome = self._transfer(daemon, infos, evaluation.outputs, built)
        outcome.seconds = {step: round(seconds, 3) for step, seconds in self._seconds.items()}
        return outcome

    def _transfer(
        self,
        daemon: Daemon,
        infos: dict[StorePath, PathInfo],
        outputs: Sequence[EvaluatedOutput],
        built: Sequence[EvaluatedOutput],
    ) -> Outcome:
        with self._timed("declare"):
            missing, present = self._declare(infos, outputs, built)
        outcome = Outcome(
            flake_name=f"{self._publication.organization}/{self._publication.project}",
            flake_version=self._publication.version,
            outputs={output.name: str(output.store_path) for output in built},
            paths_uploaded=len(missing),
            paths_present=present,
        )
        with self._timed("upload"):
            outcome.bytes_uploaded = self._upload(daemon, missing)
        with self._timed("tarball"):
            self._send_source()
        if self._wish.finish:
            with self._timed("finish"):
                self._finish(outcome, infos, outputs)
        return outcome

    def _read_flake(self) -> FlakeMetadata:
        self._progress.step(f"Reading {self._source.folder}")
        if not self._source.pure:
            self._progress.warn("Changes are not committed, so the release will name no revision.")
        try:
            return flake_metadata(self._store, self._source.url)
        except StaleLockError as error:
            raise StaleLockError(
                "lock-stale",
                f"flake.lock is missing or does not fit {self._source.folder / 'flake.nix'}: "
                "what would be published is not what was tested.",
                hint="Run `nix flake lock`, then commit flake.lock.",
            ) from error
        except CommandError as error:
            raise PisteError(
                "evaluation-failed",
                f"The flake in {self._source.folder} can't be read:\n{error.said}",
                hint="Mend it until `nix flake metadata` reads it, and commit that.",
            ) from error

    def _sign_in(self) -> None:
        if self._identity is None:
            return
        wish = self._wish
        wanted = NewSession(
            wish.organization,
            wish.project,
            self._source.version,
            rolling=wish.version is None,
            stage=wish.stage,
        )
        sign_in(self._client, self._identity, wanted)

    def _open(self) -> Publication:
        wish, message = self._wish, self._opening()
        try:
            return self._client.open_publication(wish.organization, wish.project, message)
        except PisteError as error:
            if error.ref != "not-found":
                raise
        # Most often the project is there, so it is made only when the hub knows none.
        project = NewProject(wish.project, wish.visibility or "private", provisional=True)
        self._client.create_project(wish.organization, project)
        self._progress.step(f"Made the {project.visibility} project {wish.organization}/{wish.project}")
        return self._client.open_publication(wish.organization, wish.project, message)

    def _opening(self) -> OpenPublication:
        checkout = self._source.checkout
        metadata = Metadata(
            description=self._flake.description,
            labels=list(self._wish.labels),
            license=self._wish.license,
            repository=checkout.repository if checkout else None,
            subdirectory=(checkout.subfolder or None) if checkout else None,
            revision=self._source.revision,
            # A shallow clone does not know how many commits there are.
            commit_count=checkout.commit_count if checkout and not checkout.shallow else None,
        )
        return OpenPublication(
            version=self._source.version,
            rolling=self._wish.version is None,
            visibility=self._wish.visibility,
            stage=self._wish.stage,
            metadata=metadata,
        )

    def _renew(self) -> None:
        """A build may have taken longer than the hub keeps a publication open."""
        if self._clock() > self._publication.expires_at - HOUR:
            if self._identity is not None and self._identity.renewable:
                self._sign_in()
            self._publication = self._open()

    def _declare(
        self,
        infos: dict[StorePath, PathInfo],
        outputs: Sequence[EvaluatedOutput],
        built: Sequence[EvaluatedOutput],
    ) -> tuple[list[PathInfo], int]:
        """Say what the release consists of; the paths to upload, and how many need none."""
        required = {output.attribute for output in built}
        declared_outputs = [
            DeclaredOutput(output.name, str(output.store_path), output.system, output.attribute in required)
            for output in outputs
        ]
        names = [info.path.base_name for info in infos.values()]
        everything = [signing.described(info, self._wish.signing_keys) for info in infos.values()]
        missing: set[str] = set()
        for start in range(0, max(1, len(everything)), _DECLARED_AT_ONCE):
            part = everything[start : start + _DECLARED_AT_ONCE]
            last = start + _DECLARED_AT_ONCE >= len(everything)
            missing.update(self._declare_part(Declaration(part, declared_outputs if last else [])).missing)
        by_name = dict(zip(names, infos.values(), strict=True))
        missing = self._pin([by_name[name] for name in missing]) if missing else missing
        return [by_name[name] for name in sorted(missing)], len(names) - len(missing)

    def _declare_part(self, declaration: Declaration) -> Declared:
        return self._client.declare(self._publication, declaration)

    def _pin(self, missing: Sequence[PathInfo]) -> set[str]:
        """Pin what upstreams hold; base names of what is still missing."""
        names = {info.path.base_name for info in missing}
        if not self._publication.upstreams:
            return names
        known = self._upstreams()
        pins = upstream.find_pins(missing, upstream.by_key(known, self._publication.upstreams))
        if not pins:
            return names
        keys = self._wish.signing_keys
        declared = [
            signing.described(info, keys, address=address, narinfo=narinfo)
            for info, (address, narinfo) in pins.items()
        ]
        left = names - {info.path.base_name for info in pins}
        for start in range(0, len(declared), _DECLARED_AT_ONCE):
            part = Declaration(declared[start : start + _DECLARED_AT_ONCE])
            left |= set(self._declare_part(part).missing)
        return left

    def _upstreams(self) -> list[Upstream]:
        keys = self._publication.upstream_keys
        if not keys:  # a hub that is older than this command
            return self._client.upstreams(self._publication.organization)
        return [Upstream(address, public_keys, 0) for address, public_keys in keys.items()]

    def _upload(self, daemon: Daemon, missing: Sequence[PathInfo]) -> int:
        # Paths of the same content are one NAR.
        infos = list({info.nar_hash: info for info in missing}.values())
        if not infos:
            return 0
        self._progress.start(len(infos), sum(info.nar_size for info in infos))
        place = upload.Place(self._client, publication_path(self._publication))
        try:
            return upload.upload(place, daemon, infos, self._progress, connections=self._wish.connections)
        finally:
            self._progress.stop()

    def _send_source(self) -> None:
        path = (*publication_path(self._publication), "source")
        with tempfile.TemporaryFile() as file:
            size = source.write_tarball(self._source, file)
            file.seek(0)
            headers = {"Content-Type": "application/gzip", "Content-Length": str(size)}
            self._client.request("PUT", path, file, headers=headers)

    def _finish(
        self, outcome: Outcome, infos: dict[StorePath, PathInfo], outputs: Sequence[EvaluatedOutput]
    ) -> None:
        published = self._published(infos, outputs)
        outcome.flake_name = f"{published.organization}/{published.project}"
        outcome.flake_version = published.version
        outcome.flakeref_at_least = published.flakeref_at_least
        outcome.flakeref_exact = published.flakeref_exact
        outcome.release_id = published.release_id
        outcome.created = published.created
        outcome.outputs = published.outputs

    def _published(self, infos: dict[StorePath, PathInfo], outputs: Sequence[EvaluatedOutput]) -> Published:
        keys = self._wish.signing_keys
        if not keys:
            return self._client.finish(self._publication)
        self._progress.step(f"Signing with {', '.join(key.name for key in keys)}")
        own = signing.Own(
            self._wish.organization,
            self._wish.project,
            str(Version.from_tag(self._source.version)),
            {output.name: output for output in outputs},
            {info.path.base_name: signing.described(info) for info in infos.values()},
        )
        return signing.finish_signed(self._client, self._publication, own, keys)

    def _try_abandon(self) -> None:
        """Take back what was staged, if it is ours alone; if that fails, it expires."""
        if self._wish.stage is not None:
            return
        try:
            self._client.abandon(self._publication)
        except PisteError:
            return

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = monotonic()
        try:
            yield
        finally:
            self._seconds[step] = self._seconds.get(step, 0.0) + monotonic() - start
