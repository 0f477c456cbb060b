package peer

//go:generate go tool -modfile=../tools/go.mod buf generate
