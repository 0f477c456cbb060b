// Package verifytables says what is compared with what: of each table that a changefeed follows, which columns of the target hold which
// of the source, in what form their values are the same, whether both sides have the rows in one order, and what can't be compared. It
// reads nothing, and decides by what the source's catalog says and what the sink would write.
package verifytables
