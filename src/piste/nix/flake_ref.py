"""References to releases, `acme/web/0.1#nixosConfigurations.web` or the same as a URL of the hub.

Says how a reference is written, not what it means: the requirement stays text, and nothing is looked up.
Must never let a name through that could leave its folder or its place in a path.
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_REFERENCE: Final = 4096
MAX_ATTRIBUTES: Final = 32

AttributePath = tuple[str, ...]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Written without quotes; everything else is quoted when printed, so that each path has one spelling.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_'+-]+")
# Accepted without quotes besides: what the command lines of Nix and fh accept too.
_UNQUOTED: Final = re.compile(r"[^.\"\\#^\s\x00-\x1f\x7f]+")
_QUOTED: Final = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_URL: Final = re.compile(r"https?://", re.IGNORECASE)

ANY_RELEASE: Final = "*"
_ARCHIVE: Final = ".tar.gz"


class FlakeRefError(ValueError):
    """The text is not a reference; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A project, which of its releases, and perhaps one attribute path (empty: none was named)."""

    organization: str
    project: str
    requirement: str = ANY_RELEASE
    attribute: AttributePath = ()

    @property
    def attribute_path(self) -> str | None:
        """The attribute path as text, in its one spelling."""
        return format_attribute_path(self.attribute) if self.attribute else None

    def __str__(self) -> str:
        fragment = f"#{format_attribute_path(self.attribute)}" if self.attribute else ""
        return f"{self.organization}/{self.project}/{self.requirement}{fragment}"


def valid_name(text: str) -> bool:
    """Whether an organization or a project may have this name."""
    return _NAME.fullmatch(text) is not None


def parse_project(text: str) -> tuple[str, str]:
    """Read `ORG/PROJECT`."""
    organization, slash, project = text.partition("/")
    if not slash or not valid_name(organization) or not valid_name(project):
        raise FlakeRefError(f"{_shown(text)} does not name a project, as `acme/web` would")
    return organization, project


def parse_reference(text: str, hub_url: str | None = None) -> Reference:
    """Read `ORG/PROJECT[/REQUIREMENT][#ATTRIBUTE]`, or `HUB/f/…` with an optional `.tar.gz`.

    `hub_url` is the hub that is asked: a URL of another one is refused, since its answer would be another's.
    """
    if len(text) > MAX_REFERENCE:
        raise FlakeRefError(f"a reference of {len(text)} characters is too long")
    place, hash_sign, fragment = text.strip().partition("#")
    if _URL.match(place):
        parts = _parts_of_url(place, hub_url)
        fragment = _unescape(fragment)
    else:
        parts = place.split("/")
    if hash_sign and not fragment:
        raise FlakeRefError(f"{_shown(text)} names no attribute path after the #")
    attribute = parse_attribute_path(fragment) if fragment else ()
    if not 2 <= len(parts) <= 3 or not valid_name(parts[0]) or not valid_name(parts[1]):
        raise FlakeRefError(f"{_shown(text)} is not a reference, as `acme/web/0.1#attribute` would be")
    requirement = parts[2].strip() if len(parts) == 3 else ANY_RELEASE
    if not requirement or "/" in requirement or not requirement.isprintable():
        raise FlakeRefError(
            f"{_shown(text)} has no usable requirement after the project (`*` for any release)"
        )
    return Reference(parts[0], parts[1], requirement, attribute)


def _parts_of_url(url: str, hub_url: str | None) -> list[str]:
    """What stands after `HUB/f/`: divided first, so that an escaped slash divides nothing."""
    if "?" in url:
        raise FlakeRefError(f"{_shown(url)} has a query, which no reference has")
    base, marker, rest = url.partition("/f/")
    whose = "of a hub (HUB/f/ORG/PROJECT/REQUIREMENT)"
    if hub_url is not None:
        base = hub_url.rstrip("/")
        whose = f"of this hub ({base}/f/…)"
        marker, rest = ("/f/", url[len(base) + 3 :]) if _begins(url, base + "/f/") else ("", "")
    if not marker or not rest:
        raise FlakeRefError(f"{_shown(url)} is not a URL {whose}")
    return [_unescape(part) for part in rest.removesuffix(_ARCHIVE).split("/")]


def _begins(url: str, base: str) -> bool:
    """Scheme and host do not know case; the path does."""
    host_end = base.index("/", base.index("//") + 2)
    return url[:host_end].lower() == base[:host_end].lower() and url[host_end:].startswith(base[host_end:])


def _unescape(text: str) -> str:
    data = bytearray()
    at = 0
    for match in _ESCAPED.finditer(text):
        data += text[at : match.start()].encode()
        data.append(int(match[1], 16))
        at = match.end()
    data += text[at:].encode()
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise FlakeRefError(f"{_shown(text)} has escapes that are not UTF-8") from None


def parse_attribute_path(text: str) -> AttributePath:
    """Read `nixosConfigurations."a.b".x`; dots divide, except within double quotes."""
    if len(text) > MAX_REFERENCE:
        raise FlakeRefError(f"an attribute path of {len(text)} characters is too long")
    names: list[str] = []
    at = 0
    while True:
        name, at = _attribute_name(text, at)
        names.append(name)
        if len(names) > MAX_ATTRIBUTES:
            raise FlakeRefError(f"an attribute path has at most {MAX_ATTRIBUTES} names")
        if at == len(text):
            return tuple(names)
        if text[at] != ".":
            raise FlakeRefError(
                f"{_shown(text)} is not an attribute path: a dot is missing before {text[at:]!r}"
            )
        at += 1


def _attribute_name(text: str, at: int) -> tuple[str, int]:
    if text.startswith('"', at):
        quoted = _QUOTED.match(text, at)
        if quoted is None:
            raise FlakeRefError(
                f"{_shown(text)} is not an attribute path: a quoted name is wrong or does not end"
            )
        return re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    plain = _UNQUOTED.match(text, at)
    if plain is None:
        hint = "; `^` chooses outputs of a build, but a release records one path for each attribute path"
        raise FlakeRefError(
            f"{_shown(text)} is not an attribute path: a name is missing{hint if '^' in text else ''}"
        )
    return plain[0], plain.end()


def format_attribute_path(names: AttributePath) -> str:
    """Print an attribute path in its one spelling, with quotes only where they are needed."""
    return ".".join(name if _PLAIN.fullmatch(name) else _quote(name) for name in names)


def _quote(name: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", name):
        raise FlakeRefError(f"{name!r} cannot be written in an attribute path: it has control characters")
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")
