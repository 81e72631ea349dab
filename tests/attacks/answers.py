"""What a hub answers, without what differs from request to request, so that answers can be compared."""

import re
from typing import Any

from piste.nix.hashes import Hash
from piste.nix.store_path import StorePath
from tests.hub.process import Answer
from tests.running.closures import Member
from tests.running.tenants import Tenant

Seen = tuple[int, str]


def seen(answer: Answer, *names: str) -> Seen:
    """Status and body; each of `names`, which the asker chose, becomes a number."""
    text = re.sub(r'"request_id":\s*"[^"]*"', '"request_id":""', answer.body.decode())
    for number, name in enumerate(names):
        text = text.replace(name, f"<{number}>")
    return answer.status, text


def words_of(path: StorePath, *hashes: Hash) -> list[str]:
    """What stands for a path and its NARs in answers: the longest first."""
    return [path.base_name, path.hash_part, *(each.base32 for each in hashes)]


def publication(tenant: Tenant, version: str) -> str:
    """The address of a new publication."""
    answer = tenant.hub.request(
        "POST", f"{tenant.api}/publications", token=tenant.token, json={"version": version}
    )
    assert answer.status == 201, answer.body
    return f"{tenant.api}/publications/{answer.json()['id']}"


def declare(tenant: Tenant, address: str, members: list[Member], output: Member | None = None) -> Answer:
    """Declare paths as they are; `output` is to be an output."""
    outputs: list[dict[str, Any]] = []
    if output is not None:
        outputs = [{"attribute": "packages.x86_64-linux.default", "store_path": str(output.path)}]
    paths = [
        {
            "path": each.path.base_name,
            "nar_hash": each.nar_hash.nix32(),
            "nar_size": len(each.nar),
            "references": [path.base_name for path in each.references],
        }
        for each in members
    ]
    return tenant.hub.request(
        "POST", f"{address}/declarations", token=tenant.token, json={"paths": paths, "outputs": outputs}
    )


def upload(tenant: Tenant, address: str, body: bytes) -> Answer:
    """Send frames."""
    return tenant.hub.request("POST", f"{address}/nars", token=tenant.token, body=body)


def finish(tenant: Tenant, address: str, source: bytes) -> Answer:
    """Bring the source, and ask for the release."""
    brought = tenant.hub.request("PUT", f"{address}/source", token=tenant.token, body=source)
    assert brought.status == 204, brought.body
    return tenant.hub.request("POST", f"{address}/finish", token=tenant.token, json={})


def narinfo_of(member: Member) -> bytes:
    """The narinfo that a stock client would put, with the NAR under its own hash."""
    references = " ".join(path.base_name for path in member.references)
    lines = [
        f"StorePath: {member.path}",
        f"URL: nar/{member.nar_hash.base32}.nar",
        "Compression: none",
        f"NarHash: {member.nar_hash.nix32()}",
        f"NarSize: {len(member.nar)}",
        f"References: {references}",
    ]
    return "".join(line + "\n" for line in lines).encode()


def put_nar(tenant: Tenant, member: Member) -> Answer:
    """Put the NAR of a path as a stock client does."""
    address = f"{tenant.cache_path}/nar/{member.nar_hash.base32}.nar"
    return tenant.hub.request("PUT", address, token=tenant.token, body=member.nar)


def put_narinfo(tenant: Tenant, member: Member) -> Answer:
    """Put the narinfo of a path as a stock client does."""
    address = f"{tenant.cache_path}/{member.path.hash_part}.narinfo"
    return tenant.hub.request("PUT", address, token=tenant.token, body=narinfo_of(member))


def looks_at(tenant: Tenant, path: StorePath, *nars: Hash) -> list[Seen]:
    """Everything that a member of the organization can ask about a path and about NARs, and the answers."""
    hub, words = tenant.hub, words_of(path, *nars)
    found = []
    for place in (tenant.cache_path, ""):
        targets = [f"{place}/{path.hash_part}.narinfo", f"{place}/{path.hash_part}.ls"]
        targets += [f"{place}/nar/{each.base32}.nar{suffix}" for each in nars for suffix in (".zst", "")]
        for target in targets:
            found.append(seen(hub.request("GET", target, token=tenant.token), *words))
            found.append((hub.request("HEAD", target, token=tenant.token).status, ""))
    return found
