"""Who may call which route on what: the whole table, written by hand. `test_matrix.py` asks a hub for each
cell.

A row is a group of routes, a column a credential. A cell has a letter for each resource: `.` allowed, `f`
refused as forbidden (403), `u` refused for want of a good credential (401), `m` missing (404, as if it were
not there). For a project these are six: public, unlisted, private of the own organization, then of a foreign
one. For an organization two: the own one, a foreign one. For the hub one.
"""

ACTORS = (
    "nobody",
    "unknown",  # none of these three means anything: a token that is made up, of another hub, forged
    "expired",  # of each kind
    "revoked",  # of each kind
    "stranger",
    "member",
    "admin",
    "owner",
    "confined",  # an owner of both, with a token for the foreign organization
    "superuser",
    "device",
    "resolve-only",  # for the private project of the own organization
    "closure",  # of a release of that
    "session",  # of a publication to that
    "identity",  # of a CI, whose runs may publish to that
    "elsewhere",  # one whose runs may publish to the private project of the foreign organization
    "pending",  # one whose runs may make a project of the own organization that is not there
    "untrusted",  # one of the same issuer that no rule agrees with
    "late",  # one that would be `identity`, and has expired a moment ago
)

# nobody unknown expired revoked stranger, member admin owner confined, superuser device resolve-only closure,
# session identity elsewhere pending, untrusted late
PROJECT = {
    "read": "..m..m uuuuuu uuuuuu uuuuuu ..m..m   .....m .....m .....m ..m...   ...... .....m mmfmmm mmmmmm"
    "   mmfmmm mmfmmm mmmmmf mmmmmm   ffffff uuuuuu",
    "ask": "..m..m uuuuuu uuuuuu uuuuuu ..m..m   .....m .....m .....m ..m...   ...... .....m mm.mmm mmmmmm"
    "   mmfmmm mmfmmm mmmmmf mmmmmm   ffffff uuuuuu",
    # `fh` has no word for 403.
    "fh": "..m..m uuuuuu uuuuuu uuuuuu ..m..m   .....m .....m .....m ..m...   ...... .....m mm.mmm mmmmmm"
    "   mmummm mmummm mmmmmu mmmmmm   uuuuuu uuuuuu",
    "cache": "..m..m uuuuuu uuuuuu uuuuuu ..m..m   .....m .....m .....m ..m...   ...... .....m mmfmmm mm.mmm"
    "   mmfmmm mm.mmm mmmmm. mmmmmm   ffffff uuuuuu",
    # What it is made from has to be resolved, which the identity of a CI can't.
    "delta": "..m..m uuuuuu uuuuuu uuuuuu ..m..m   .....m .....m .....m ..m...   ...... .....m mmfmmm mm.mmm"
    "   mmfmmm mmmmmm mmmmmm mmmmmm   ffffff uuuuuu",
    "root": ".mm.mm uuuuuu uuuuuu uuuuuu .mm.mm   ....mm ....mm ....mm .mm...   ...... ....mm ffffff mm.mmm"
    "   ffffff mm.mmm mmmmm. mmmmmm   ffffff uuuuuu",
    "log at root": ".mm.mm uuuuuu uuuuuu uuuuuu .mm.mm   ....mm ....mm ....mm .mm...   ...... ....mm ffffff"
    " ffffff   ffffff ffffff ffffff ffffff   ffffff uuuuuu",
    "log": ".um.um uuuuuu uuuuuu uuuuuu .fm.fm   ....fm ....fm ....fm .fm...   ...... ....fm mmfmmm mmmmmm"
    "   mmfmmm mmfmmm mmmmmf mmmmmm   ffffff uuuuuu",
    "fill": "uumuum uuuuuu uuuuuu uuuuuu ffmffm   ...ffm ...ffm ...ffm ffm...   ...... fffffm mmfmmm mmmmmm"
    "   mmfmmm mm.mmm mmmmm. mmmmmm   ffffff uuuuuu",
    "publish": "uumuum uuuuuu uuuuuu uuuuuu ffmffm   ...ffm ...ffm ...ffm ffm...   ...... fffffm mmfmmm"
    " mmmmmm   mm.mmm mm.mmm mmmmm. mmmmmm   ffffff uuuuuu",
    # As `flakehub-push` is told: what is forbidden is a credential that isn't good for it.
    "stage": "uumuum uuuuuu uuuuuu uuuuuu uumuum   ...uum ...uum ...uum uum...   ...... uuuuum mmummm mmmmmm"
    "   mm.mmm mm.mmm mmmmm. mmmmmm   uuuuuu uuuuuu",
    "rule": "uumuum uuuuuu uuuuuu uuuuuu ffmffm   fffffm ...ffm ...ffm ffm...   ...... fffffm mmfmmm mmmmmm"
    "   mmfmmm mmfmmm mmmmmf mmmmmm   ffffff uuuuuu",
}
ORGANIZATION = {
    "belong": "mm uu uu uu mm   .m .m .m m.   .. fm mm mm   mm mm mm mm   ff uu",
    "manage": "mm uu uu uu mm   .m .m .m m.   .. fm mm mm   mm mm mm mm   ff uu",
    "create": "mm uu uu uu mm   .m .m .m m.   .. fm mm mm   mm mm mm .m   ff uu",
    "govern": "mm uu uu uu mm   fm .m .m m.   .. fm mm mm   mm mm mm mm   ff uu",
}
HUB = {
    "open": ". u u u .   . . . .   . . . .   . . . .   f u",
    "list": ". u u u .   . . . .   . . f f   f f f f   f u",
    # As `fh` is told who it is: not at all without a credential.
    "who": "u u u u .   . . . .   . . . .   . . . .   f u",
    # Who can push to exactly one project need not name it.
    "infer": "u u u u .   (409) (409) (409) (409)   (409) (409) f (409)   f . . (409)   f u",
    "found": "u u u u f   f f f f   . f f f   f f f f   f u",
    "known": "u u u u .   . . . .   . . . .   . . . .   u u",
    # Which upload it is, and whose, is found by the handler.
    "finish": "u u u u .   . . . .   . u u u   u . . .   u .",
    # The identity of a CI stands where a token does: its handler alone looks at it.
    "exchange": ". . . . .   . . . .   . . . .   . . . .   . .",
}

_PROJECTS = "/api/v1/projects/{org}/{project}"
_ORGANIZATION = "/api/v1/organizations/{org}"
_CACHE = "/cache/{org}/{project}"
_PUBLICATION = _PROJECTS + "/publications/{publication}"

ROUTES = {
    "GET /healthz": "open",
    "GET /nix-cache-info": "open",
    "GET /api/v1/status": "open",
    "GET /api/v1/organizations": "list",
    "GET /api/v1/projects": "list",
    "POST /api/v1/organizations": "found",
    "GET /api/v1/audit": "found",
    "POST /api/v1/identities/session": "exchange",
    "GET /cli/status": "who",
    "GET /search": "list",
    "GET /flakes": "list",
    "GET /label/{label}": "list",
    "GET /orgs": "list",
    "GET /orgs/{owner}/projects": "list",
    f"GET {_ORGANIZATION}": "belong",
    f"GET {_ORGANIZATION}/members": "belong",
    f"GET {_ORGANIZATION}/upstreams": "belong",
    f"GET {_ORGANIZATION}/keys": "belong",
    f"GET {_ORGANIZATION}/tokens": "manage",
    f"POST {_ORGANIZATION}/tokens": "manage",
    f"POST {_ORGANIZATION}/tokens/batch": "manage",
    f"DELETE {_ORGANIZATION}/tokens/{{token}}": "manage",
    f"POST {_ORGANIZATION}/tokens/{{token}}/rotate": "manage",
    f"POST {_ORGANIZATION}/projects": "create",
    f"GET {_ORGANIZATION}/audit": "govern",
    "GET /orgs/{org}/device_tokens": "govern",
    "POST /orgs/{org}/device_token": "govern",
    "POST /orgs/{org}/device_token/{token}/revoke": "govern",
    f"POST {_ORGANIZATION}/keys": "govern",
    f"DELETE {_ORGANIZATION}/keys/{{key}}": "govern",
    f"GET {_ORGANIZATION}/trust": "govern",
    f"POST {_ORGANIZATION}/trust": "govern",
    f"DELETE {_ORGANIZATION}/trust/{{rule}}": "govern",
    f"POST {_ORGANIZATION}/members": "govern",
    f"DELETE {_ORGANIZATION}/members/{{person}}": "govern",
    f"POST {_ORGANIZATION}/upstreams": "govern",
    f"DELETE {_ORGANIZATION}/upstreams": "govern",
    f"GET {_PROJECTS}": "read",
    f"GET {_PROJECTS}/releases": "read",
    f"GET {_PROJECTS}/versions/{{requirement}}": "read",
    f"GET {_PROJECTS}/releases/{{requirement}}": "read",
    f"GET {_PROJECTS}/releases/{{requirement}}/source": "read",
    "GET /f/{org}/{project}/{requirement}": "read",
    "GET /f/pinned/{org}/{project}/{version}/{release}/source.tar.gz": "read",
    "GET /f/{org}/{project}": "read",
    "GET /f/{org}/{project}/releases": "read",
    "GET /f/{org}/{project}/{requirement}/outputs": "read",
    "GET /version/{org}/{project}/{requirement}": "read",
    "GET /version/resolve/{org}/{project}/{requirement}": "read",
    f"GET {_PROJECTS}/resolve/{{requirement}}/{{attribute}}": "ask",
    f"GET {_PROJECTS}/plan/{{requirement}}/{{attribute}}": "ask",
    f"POST {_PROJECTS}/plan/{{requirement}}/{{attribute}}": "ask",
    "GET /f/{org}/{project}/{requirement}/output/{attribute}": "fh",
    f"GET {_CACHE}/nix-cache-info": "cache",
    f"GET {_CACHE}/{{hash}}.narinfo": "cache",
    f"GET {_CACHE}/{{hash}}.ls": "cache",
    f"GET {_CACHE}/nar/{{file}}": "cache",
    f"GET {_CACHE}/manifest/{{digest}}": "cache",
    f"GET {_CACHE}/manifest/{{digest}}/sources": "cache",
    f"GET {_CACHE}/manifest/{{digest}}/nars": "cache",
    f"GET {_CACHE}/manifest/{{digest}}/deltas/{{base}}/{{number}}": "delta",
    "GET /{hash}.narinfo": "root",
    "GET /{hash}.ls": "root",
    "GET /nar/{file}": "root",
    "GET /project": "infer",
    "GET /project/{org}/{project}": "cache",
    "GET /_api/v1/cache-config/{name}": "cache",
    "POST /_api/v1/get-missing-paths": "fill",
    "PUT /_api/v1/upload-path": "fill",
    f"GET {_CACHE}/log/{{drv}}": "log",
    f"GET {_CACHE}/realisations/{{entry}}.doi": "log",
    f"GET {_CACHE}/build-trace-v2/{{drv}}/{{output}}.doi": "log",
    f"GET {_CACHE}/debuginfo/{{build_id}}": "log",
    "GET /log/{drv}": "log at root",
    "GET /realisations/{entry}.doi": "log at root",
    "GET /build-trace-v2/{drv}/{output}.doi": "log at root",
    "GET /debuginfo/{build_id}": "log at root",
    f"PUT {_CACHE}/nix-cache-info": "fill",
    f"PUT {_CACHE}/{{hash}}.narinfo": "fill",
    f"PUT {_CACHE}/{{hash}}.ls": "fill",
    f"PUT {_CACHE}/nar/{{file}}": "fill",
    f"PUT {_CACHE}/log/{{drv}}": "fill",
    f"PUT {_CACHE}/realisations/{{entry}}.doi": "fill",
    f"PUT {_CACHE}/build-trace-v2/{{drv}}/{{output}}.doi": "fill",
    f"PUT {_CACHE}/debuginfo/{{build_id}}": "fill",
    f"POST {_PROJECTS}/publications": "publish",
    f"GET {_PUBLICATION}": "publish",
    f"GET {_PUBLICATION}/paths": "publish",
    f"DELETE {_PUBLICATION}": "publish",
    f"POST {_PUBLICATION}/declarations": "publish",
    f"POST {_PUBLICATION}/nars": "publish",
    f"PUT {_PUBLICATION}/parts/{{upload}}/{{part}}": "publish",
    f"PUT {_PUBLICATION}/source": "publish",
    f"POST {_PUBLICATION}/finish": "publish",
    f"POST {_PROJECTS}/pushes": "fill",
    f"POST {_PROJECTS}/pushes/missing": "fill",
    f"DELETE {_PROJECTS}/pushes/{{push}}": "fill",
    f"POST {_PROJECTS}/pushes/{{push}}/declarations": "fill",
    f"POST {_PROJECTS}/pushes/{{push}}/nars": "fill",
    f"PUT {_PROJECTS}/pushes/{{push}}/parts/{{upload}}/{{part}}": "fill",
    f"POST {_PROJECTS}/pushes/{{push}}/finish": "fill",
    "GET /token/status": "known",
    "POST /upload/{org}/{project}/{version}/{length}/{tail*}": "stage",
    "PUT /upload-address/{address}": "exchange",
    "POST /publish/{publication}": "finish",
    f"PATCH {_PROJECTS}": "rule",
    f"DELETE {_PROJECTS}": "rule",
    f"DELETE {_PROJECTS}/releases/{{version}}": "rule",
    f"PUT {_PROJECTS}/releases/{{version}}/yank": "rule",
    f"DELETE {_PROJECTS}/releases/{{version}}/yank": "rule",
}

# What is sent where the project is named in the request instead of its path: a header, the body. NAME stands
# for the project. Such a route decides in its handler, which is therefore not stopped.
_NAR = (
    '{"cache":"NAME","store_path_hash":"HASH","store_path":"/nix/store/HASH-app","references":[],'
    '"nar_hash":"sha256:' + "0" * 64 + '","nar_size":1}'
)
NAMED = {
    "POST /_api/v1/get-missing-paths": ("", '{"cache":"NAME","store_path_hashes":[]}'),
    "PUT /_api/v1/upload-path": ("x-attic-nar-info: " + _NAR.replace("HASH", "0" * 32), ""),
}


def expected(group: str, actor: str) -> str:
    """The letters of a cell."""
    row = {**PROJECT, **ORGANIZATION, **HUB}[group].split()
    return row[ACTORS.index(actor)]
