//go:build databases

package databases

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"fencerow/integration/lab"
	"fencerow/integration/proc"
)

var (
	faultsWanted = flag.Int("faults.n", 8, "how many effective faults there have to be")
	seedWanted   = flag.Int("faults.seed", 0, "where the rotation of faults begins")
)

// The binaries under test: with failpoints, and with failpoints and without the compare of the claim in a data transaction.
var binary, unfenced string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("databases: left out by -short; make databases runs them")
		os.Exit(0)
	}
	os.Exit(lab.Main(build, func(dir string) int {
		binary, unfenced = filepath.Join(dir, "cdc-node"), filepath.Join(dir, "cdc-node-unfenced")
		if err := flag.Set("test.parallel", "3"); err != nil { // they wait for the most part
			fmt.Fprintln(os.Stderr, "databases:", err)
			return 1
		}
		return m.Run()
	}))
}

func build(dir string) error {
	const root = "../.."
	if err := proc.Build(root, dir, "cdc-node"); err != nil {
		return err
	}
	return proc.Build(root, dir, "cdc-node-unfenced", proc.Fences...)
}
