// Package faults holds the suite of faults on real processes in network namespaces: nodes that are stopped, killed and cut
// off at known places of the protocol, in clusters side by side, judged by the simulation's checker, by porcupine and by
// integration/judge. docs/safety.md says what its report means.
package faults
