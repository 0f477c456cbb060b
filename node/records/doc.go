// Package records says what epochstore says in the words of the cores, and the other way round: watched records as a
// coordinator's inputs, its decisions as guarded transactions, what a maintainer asks for as reads. It decides nothing but
// how long statuses wait for one another, and knows neither gRPC nor etcd's client, so that a simulation does the very same
// with the same records.
package records
