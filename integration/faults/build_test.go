package faults

import "fencerow/integration/proc"

// build makes the binaries under test.
func build(dir string) error {
	const root = "../.."
	if err := proc.Build(root, dir, "cdc-node"); err != nil {
		return err
	}
	return proc.Build(root, dir, "cdc-node-unfenced", proc.Fences...)
}
