// Package sqlite3 stands in for a storage that is not used, and takes longer to build than all the rest.
package sqlite3

type ErrNo int

type ErrNoExtended int

const ErrConstraintPrimaryKey ErrNoExtended = 1555

type Error struct {
	Code         ErrNo
	ExtendedCode ErrNoExtended
}

func (Error) Error() string {
	return "not available"
}
