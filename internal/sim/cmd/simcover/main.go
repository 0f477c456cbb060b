// Command simcover builds the simulation with counters, runs seeds, and says which statements of the cores and which
// outcomes of the fences these have executed. Less than they must is a failure.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// leastDefault is the part of the cores' statements that the seeds must execute. What they don't is listed by -missing: mostly
// records that do not parse, and bounds that small clusters don't come to.
const leastDefault = 95

// packages are those whose statements are counted. The main package is among them, or nothing would be written.
func packages() []string {
	return []string{"fence", "coordinator", "maintainer", "dispatcher", "epochstore", "sink", "sink/etcd", "internal/sim/cmd/sim"}
}

// judged reports whether the file holds decisions, and whether it is a core.
func judged(file string) (decides, core bool) {
	folder, name := filepath.Split(file)
	switch strings.TrimSuffix(folder, "/") {
	case "coordinator", "maintainer", "dispatcher":
		core = strings.HasPrefix(name, "core")
		return core || strings.HasPrefix(name, "pump_rules") || strings.HasPrefix(name, "pump_pieces"), core
	case "fence":
		return true, false
	case "epochstore":
		return strings.HasPrefix(name, "txn_"), false
	case "sink":
		return name == "map.go" || name == "head.go", false
	case "sink/etcd":
		return name == "txns.go", false
	}
	return false, false
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // main starts the context
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	seeds := flag.String("seeds", "1..1000", "the seeds to run")
	least := flag.Float64("least", leastDefault, "percent of the cores' statements that must be executed")
	missing := flag.Bool("missing", false, "list the statements that were not")
	flag.Parse()
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "simcover-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	c := &counting{root: root, folder: folder, sources: map[string][]string{}}
	if err := c.copy(); err != nil {
		return err
	}
	profile, census, err := c.count(ctx, *seeds)
	if err != nil {
		return err
	}
	fmt.Print(census)
	return report(os.Stdout, c.judge(profile, census), verdictRules{least: *least, missing: *missing})
}

// counting is one build and run.
type counting struct {
	root, folder string
	sources      map[string][]string // lines as they are built, by file below the root
}

// copy copies the module, with a marked condition that is returned or kept rewritten as an if, so that both of its outcomes are
// counted.
// (The go command does not count what an overlay brings.)
func (c *counting) copy() error {
	return filepath.WalkDir(c.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(c.root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if below != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin") {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(c.folder, "module", below), 0o700)
		}
		isGo := strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
		if !isGo && entry.Name() != "go.mod" && entry.Name() != "go.sum" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if decides, _ := judged(filepath.ToSlash(below)); decides {
			text = []byte(rewrite(string(text)))
			c.sources[filepath.ToSlash(below)] = strings.Split(string(text), "\n")
		}
		return os.WriteFile(filepath.Join(c.folder, "module", below), text, 0o600)
	})
}

// count builds and runs the seeds, and returns the profile and what the run printed.
func (c *counting) count(ctx context.Context, seeds string) (profile, census string, err error) {
	var covered []string
	for _, pkg := range packages() {
		covered = append(covered, "fencerow/"+pkg)
	}
	binary, data := filepath.Join(c.folder, "sim"), filepath.Join(c.folder, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-cover", "-covermode=atomic", "-coverpkg="+strings.Join(covered, ","),
		"-o", binary, "./internal/sim/cmd/sim")
	build.Dir = filepath.Join(c.folder, "module")
	if out, err := build.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("simcover: build: %w\n%s", err, out)
	}
	sim := exec.CommandContext(ctx, binary, "-seeds", seeds)
	sim.Env = append(os.Environ(), "GOCOVERDIR="+data)
	out, err := sim.CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("simcover: the seeds: %w\n%s", err, out)
	}
	text := filepath.Join(c.folder, "profile.txt")
	convert := exec.CommandContext(ctx, "go", "tool", "covdata", "textfmt", "-i="+data, "-o="+text)
	if out, err := convert.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("simcover: the counters: %w\n%s", err, out)
	}
	read, err := os.ReadFile(text)
	return string(read), string(out), err
}
