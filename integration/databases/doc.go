// Package databases runs pgbench at a PostgreSQL that is copied to others and to a MariaDB by three nodes, which are killed,
// stopped and cut off meanwhile, and says what of it is wrong in the targets. Its tests have the build tag databases, and
// need root: each node is a machine of a lab.
package databases
