package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// suite is one call of the go command: some tests of a package, or all.
type suite struct {
	pkg string // "./fence"
	run string // for -run; "" for all
}

func (s suite) String() string {
	if s.run == "" {
		return s.pkg
	}
	return s.pkg + " -run " + s.run
}

// tags of the go command: the suites of the sinks that are databases, which start servers of their own, are among those
// that look for mutants.
const tags = "databases"

// tests says which tests there are, which fences each is named for, and which packages use which.
type tests struct {
	named     map[string]map[string][]string // by package, by fence: names
	importers map[string][]string            // by package: those with tests that import it, in code or tests
}

// survey reads the test files below root.
func survey(ctx context.Context, root string) (tests, error) {
	out := tests{named: map[string]map[string][]string{}, importers: map[string][]string{}}
	err := eachGoFile(root, func(file string) error {
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(file)), nil,
			parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("mutants: %w", err)
		}
		out.read(packageOf(file), parsed)
		return nil
	})
	if err != nil {
		return tests{}, err
	}
	return out, out.readImporters(ctx, root)
}

// read takes in the tests of a file. A test is named for a fence by its own name, or by the comment above it.
func (t tests) read(pkg string, parsed *ast.File) {
	inName, inDoc := regexp.MustCompile(`F\d+|Order`), regexp.MustCompile(`\bF\d+\b`)
	if t.named[pkg] == nil {
		t.named[pkg] = map[string][]string{}
	}
	for _, decl := range parsed.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(function.Name.Name, "Test") || function.Recv != nil {
			continue
		}
		fences := append(inName.FindAllString(function.Name.Name, -1), inDoc.FindAllString(function.Doc.Text(), -1)...)
		for _, fence := range fences {
			fence = strings.Replace(fence, "Order", orderMutants, 1)
			if !slices.Contains(t.named[pkg][fence], function.Name.Name) {
				t.named[pkg][fence] = append(t.named[pkg][fence], function.Name.Name)
			}
		}
	}
}

// readImporters asks the go command who imports whom.
func (t tests) readImporters(ctx context.Context, root string) error {
	command := exec.CommandContext(ctx, "go", "list", "-tags="+tags, "-json=ImportPath,Module,Imports,TestImports,XTestImports,TestGoFiles,XTestGoFiles", "./...")
	command.Dir = root
	listing, err := command.Output()
	if err != nil {
		return fmt.Errorf("mutants: go list: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(listing))
	for {
		var one struct {
			ImportPath                                                    string
			Module                                                        struct{ Path string }
			Imports, TestImports, XTestImports, TestGoFiles, XTestGoFiles []string
		}
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("mutants: go list: %w", err)
		}
		if len(one.TestGoFiles)+len(one.XTestGoFiles) == 0 {
			continue
		}
		prefix := one.Module.Path + "/"
		for _, path := range slices.Concat(one.Imports, one.TestImports, one.XTestImports) {
			used, ours := strings.CutPrefix(path, prefix)
			pkg := "./" + strings.TrimPrefix(one.ImportPath, prefix)
			if ours && neighbour(pkg) && "./"+used != pkg && !slices.Contains(t.importers["./"+used], pkg) {
				t.importers["./"+used] = append(t.importers["./"+used], pkg)
			}
		}
	}
}

// neighbour leaves out packages whose tests start processes or measure.
func neighbour(pkg string) bool {
	for _, slow := range []string{"./integration", "./bench", "./node", "./cmd", "./internal/mutants", "./internal/archtest"} {
		if pkg == slow || strings.HasPrefix(pkg, slow+"/") {
			return false
		}
	}
	return true
}

// of returns the suites for a mutant, the most telling first: what is named for its fences in its own package, that
// package's whole suite, what is named for them elsewhere, and the suites of those who use the package and have fences.
func (t tests) of(m Mutant) []suite {
	var out []suite
	add := func(one suite) {
		if !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	fences := strings.Split(m.Fence, "+")
	packages := append([]string{m.Package()}, t.importers[m.Package()]...)
	for i, pkg := range packages {
		var names []string
		for _, fence := range fences {
			names = append(names, t.named[pkg][fence]...)
		}
		slices.Sort(names)
		if len(names) > 0 {
			add(suite{pkg, "^(" + strings.Join(slices.Compact(names), "|") + ")$"})
		}
		if _, hasTests := t.named[pkg]; i == 0 && hasTests {
			add(suite{pkg: pkg})
		}
	}
	for _, pkg := range packages[1:] {
		if _, fenced := t.named[pkg]; fenced && (len(t.named[pkg]) > 0 || pkg == "./internal/sim") {
			add(suite{pkg: pkg})
		}
	}
	return out
}
