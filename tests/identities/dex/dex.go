// Package dex names what is to be built: dex, an OpenID provider, at the one version that a Go proxy can tell.
// `crdb` and `sqlite3` stand in for storages that are not used here.
package dex

import _ "github.com/dexidp/dex/cmd/dex"
