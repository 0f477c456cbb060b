// Package verify compares what a target holds with what its source holds, while changes go on from one to the other. It
// holds nothing up and locks nothing, and what it names is really different: see judge for why.
//
// Source and target are read in chunks of keys, by digests. Rows of chunks that differ are looked at again, one by one, in
// rounds: the source, then the target once it has come to where the source was, then the source again. The kinds of
// sources and targets are behind [Source] and [Side]; verify/verifyetcd is one.
package verify
