// Package verifysql reads tables of SQL servers for a comparison between servers that write values in different ways: rows are read,
// each value is brought to the one form that both sides have in common, and digested here. It knows no server: how to speak to one is
// a [Server], and what form a value has is said for each [Column].
package verifysql
