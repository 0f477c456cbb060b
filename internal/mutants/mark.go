package mutants

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Edit replaces the bytes [Start, End) of a file, which are Old.
type Edit struct {
	File       string // below the root, with slashes
	Start, End int
	Old, Text  string
}

// Mutant is the code without one fence, or without two that mask each other.
type Mutant struct {
	Fence string // "F16", or "F9+F10"
	Note  string // the rest of the mark, which tells marks of one fence apart
	Place string // file and function
	Line  int    // of the mark, in the file of the first edit
	What  string // what was done to the marked code
	Edits []Edit
	// Seen says why no test can tell the mutant from the code; "" if one can.
	Seen string
}

// Package returns the package that the mutant is in, as a path below the root.
func (m Mutant) Package() string { return packageOf(m.Edits[0].File) }

func packageOf(file string) string { return "./" + filepath.ToSlash(filepath.Dir(file)) }

// mark is one `// fence:Fn` and the code that it stands at.
type mark struct {
	fence, note string
	file        string
	line        int
	function    *ast.FuncDecl
	path        []ast.Node // from the function to the marked node, outermost first
	src         []byte
	fset        *token.FileSet
}

func (m *mark) String() string { return fmt.Sprintf("%s:%d: fence:%s", m.file, m.line, m.fence) }

func (m *mark) place() string { return m.file + " " + m.function.Name.Name }

func (m *mark) offset(pos token.Pos) int { return m.fset.Position(pos).Offset }

func (m *mark) lineOf(pos token.Pos) int { return m.fset.Position(pos).Line }

func (m *mark) text(node ast.Node) string {
	return string(m.src[m.offset(node.Pos()):m.offset(node.End())])
}

// Find returns all mutants of the code below root, in order of file and line. A mark that it can't make a mutant of is
// an error, so that no fence is left out in silence.
func Find(root string) ([]Mutant, error) {
	var out []Mutant
	err := eachGoFile(root, func(file string) error {
		if strings.HasSuffix(file, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return fmt.Errorf("mutants: %w", err)
		}
		found, err := inFile(file, src)
		out = append(out, found...)
		return err
	})
	return out, err
}

// eachGoFile calls visit with the path of every Go file below root.
func eachGoFile(root string, visit func(file string) error) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("mutants: %w", err)
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "mutants") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("mutants: %w", err)
		}
		return visit(filepath.ToSlash(below))
	})
}

// inFile returns the mutants of one file.
func inFile(file string, src []byte) ([]Mutant, error) {
	if !strings.Contains(string(src), "// fence:F") {
		return nil, nil
	}
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("mutants: %w", err)
	}
	pattern := regexp.MustCompile(`^// fence:(F\d+)(?:\s+(.*))?$`)
	var out []Mutant
	for _, group := range parsed.Comments {
		for _, comment := range group.List {
			parts := pattern.FindStringSubmatch(comment.Text)
			if parts == nil {
				continue
			}
			m := &mark{fence: parts[1], note: parts[2], file: file, line: fset.Position(comment.Pos()).Line, src: src, fset: fset}
			if !m.locate(parsed) {
				return nil, fmt.Errorf("mutants: %v stands at no code", m)
			}
			made, err := m.mutants()
			if err != nil {
				return nil, err
			}
			out = append(out, made...)
		}
	}
	slices.SortStableFunc(out, func(a, b Mutant) int { return cmp.Compare(a.Edits[0].Start, b.Edits[0].Start) })
	return out, nil
}

// locate finds the innermost statement that the mark's line belongs to.
func (m *mark) locate(parsed *ast.File) bool {
	for _, decl := range parsed.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok || m.line < m.lineOf(function.Pos()) || m.line > m.lineOf(function.End()) {
			continue
		}
		m.function = function
		var stack []ast.Node
		ast.Inspect(function, func(node ast.Node) bool {
			if node == nil {
				stack = stack[:len(stack)-1]
				return true
			}
			stack = append(stack, node)
			if m.marks(node) {
				m.path = slices.Clone(stack)
			}
			return true
		})
	}
	return m.path != nil
}

// marks reports whether the mark is about this statement. Of several the last, which is the innermost, counts.
func (m *mark) marks(node ast.Node) bool {
	switch node := node.(type) {
	case *ast.IfStmt:
		return m.lineOf(node.Pos()) <= m.line && m.line <= m.lineOf(node.Body.Lbrace)
	case *ast.ReturnStmt, *ast.AssignStmt, *ast.ExprStmt:
		inBranch := len(m.path) > 0 && isIf(m.path[len(m.path)-1]) && m.lineOf(node.Pos()) == m.line
		return m.lineOf(node.Pos()) <= m.line && m.line <= m.lineOf(node.End()) && !inBranch
	default:
		return false
	}
}

// isIf keeps an if's own init statement from being taken for what is marked.
func isIf(node ast.Node) bool {
	_, ok := node.(*ast.IfStmt)
	return ok
}
