// Package dbtest starts private database servers for tests: on loopback, on a free port, with their data in a temporary
// folder, as a user without privileges where the tests run as root. Nothing of the machine's own servers is touched. Where
// the programs are missing it says what to install; it never lets a test pass without them.
package dbtest
