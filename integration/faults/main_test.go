package faults

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fencerow/integration/lab"
)

var (
	faultsWanted   = flag.Int("faults.n", 60, "how many faults to inject")
	seedWanted     = flag.Uint64("faults.seed", 0, "where the rotation over fault × phase begins; 0: the day")
	clustersWanted = flag.Int("faults.clusters", 4, "clusters side by side")
	onlyWanted     = flag.String("faults.only", "", "a regular expression: of the rotation take only these")
	keepWanted     = flag.String("faults.keep", "", "a folder to leave the histories in")
)

// The binaries under test: with failpoints, and with failpoints and without the fence of the etcd sink's writes.
var binary, unfenced string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("faults: left out by -short; make faults runs them")
		os.Exit(0)
	}
	if *seedWanted == 0 {
		*seedWanted = uint64(time.Now().Unix() / int64(24*time.Hour/time.Second)) //nolint:gosec // after 1970
	}
	os.Exit(lab.Main(build, func(dir string) int {
		binary, unfenced = filepath.Join(dir, "cdc-node"), filepath.Join(dir, "cdc-node-unfenced")
		if err := flag.Set("test.parallel", "16"); err != nil { // clusters wait more than they work
			fmt.Fprintln(os.Stderr, "faults:", err)
			return 1
		}
		return m.Run()
	}))
}
