package maintainer

import (
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	"fencerow/record"
)

// generation names what dispatchers run of a spec: specs that say the same of source, sink, start and options have
// equal ones. So dispatchers are adopted over a pause, a move, a split or a bump by hand, which change the spec's
// revision and nothing that they do, and are stopped first where an update changed it. It is never 0.
func generation(spec *record.Spec) int64 {
	h := fnv.New64a()
	write := func(words ...string) {
		for _, word := range words {
			_, _ = h.Write([]byte(strconv.Itoa(len(word)) + ":" + word))
		}
	}
	write(string(spec.UID), spec.Source, spec.Sink, spec.Start)
	for _, name := range slices.Sorted(maps.Keys(spec.Options)) {
		if !ownOption(name) {
			write(name, spec.Options[name])
		}
	}
	for _, skip := range spec.Skips {
		write("skip", skip.Position.String(), strconv.FormatUint(uint64(skip.Index), 10))
	}
	const positive = 1<<62 - 1
	return int64(h.Sum64()&positive) + 1
}
