// Package etcd is the sink that copies to a prefix of another etcd. Data and fence share every transaction: what a
// stale writer sends is refused by the target itself, and nothing of it is left.
//
// Beside the data, outside its prefix, the target keeps for each changefeed, under
// /cdc-claims/<cluster id>/<namespace>/<name>/:
//
//	head          whose it is, the floor, whether it was removed, the number of the next claim
//	claims/<n>    token and span of one claim; written only by claims
//	marks/<n>     how far the pieces of that claim are; written with each data transaction
//	rest          the pieces that nobody may write until they are claimed again
//	syncs/<p>     a sync point: at the mod revision of this key the target is what the source was at position p
//
// and, for all changefeeds, the prefixes that are in use under /cdc-claims/targets/.
//
// The incarnation of a claim is the mod revision of its claims/<n>. A data transaction compares it, so whoever rewrites
// or deletes that key has fenced the writer out. Everything but marks/<n> is written only in transactions that compare
// the head's mod revision and move it, so the claims of one changefeed are serialised. Claims that were superseded are
// deleted in the transaction that supersedes them: nothing grows with time.
package etcd
