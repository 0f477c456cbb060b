package mutants

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// permits names the functions whose answer true, or nil beside a value, lets something happen. In all others it is
// the answer true that refuses or stops.
func permits(function string) bool {
	switch function {
	case "lostForGood", "rangeIsFree", "mayStart", "AdmitBootstrap":
		return true
	default:
		return false
	}
}

// decides names the functions that return a marked condition itself. One that isn't named is an error: it must be said
// which answer is the permissive one.
func decides(function string) bool { return permits(function) || function == "superseded" }

// steps says what goes on without a marked effect, by the effect's type.
func steps(effect string) (string, bool) {
	if effect == "Raise" {
		return "c.onRaised(Raised{})", true
	}
	return "", false
}

// goesOn says what runs in place of a refusal without which the code would have nothing to go on with and panic, by
// place and condition.
func goesOn(place, condition string) (string, bool) {
	if place == "dispatcher/core_dispatch.go place" && condition == "c.terms == nil" {
		return "{ c.terms = &terms{} }", true
	}
	return "", false
}

// unseen says why a part of a condition can be left out without anybody noticing, by place and part.
func unseen(place, part string) string {
	const (
		observe = "fence/gate.go Observe"
		implied = "implied where it matters: at held epoch 0 only a record of epoch 0 is not newer"
		nothing = "no fence: a record that says what is held, or nothing, changes nothing that is obeyed"
	)
	switch [2]string{place, part} {
	case [2]string{observe, "record.Epoch == 0"}:
		return implied
	case [2]string{observe, `record.UID != ""`}, [2]string{observe, "g.held != record"}:
		return nothing
	case [2]string{"maintainer/core_hosts.go rangeIsFree", "h.gone"}:
		return "implied: under claims a node that is gone is lost for good"
	case [2]string{"fence/gate.go Confirm", "c != record"}:
		return "implied: a gate that didn't hold the claimant before and does after the record was observed, has it from the record"
	default:
		return ""
	}
}

// mutants returns the ways in which the marked code is taken away: whole, and where a condition has several parts,
// each part alone.
func (m *mark) mutants() ([]Mutant, error) {
	if out := m.withoutCompares(); len(out) > 0 {
		return out, nil
	}
	switch node := m.path[len(m.path)-1].(type) {
	case *ast.IfStmt:
		if m.permissive(node) {
			return m.without(node.Cond, token.LAND, "true || "), nil
		}
		if body, special := goesOn(m.place(), m.text(node.Cond)); special {
			return []Mutant{m.mutant(oneLine(m.text(node.Cond))+" is let through", m.replace(node.Body.Pos(), node.Body.End(), body))}, nil
		}
		return m.without(node.Cond, token.LOR, "false && "), nil
	case *ast.AssignStmt:
		if len(node.Rhs) == 1 && node.Tok == token.DEFINE {
			return m.without(node.Rhs[0], token.LAND, "true || "), nil
		}
	case *ast.ReturnStmt:
		return m.withoutReturn(node)
	case *ast.ExprStmt:
		return m.withoutEffect(node)
	}
	return nil, fmt.Errorf("mutants: %v stands at code that no rule takes away", m)
}

// permissive reports whether a condition that holds lets something happen.
func (m *mark) permissive(node *ast.IfStmt) bool {
	if len(node.Body.List) == 0 || !permits(m.function.Name.Name) {
		return false
	}
	last, ok := node.Body.List[len(node.Body.List)-1].(*ast.ReturnStmt)
	if !ok || len(last.Results) == 0 {
		return false
	}
	answer, ok := last.Results[len(last.Results)-1].(*ast.Ident)
	return ok && (answer.Name == "true" || answer.Name == "nil")
}

// without makes a condition constant, by a prefix that short-circuits it, so that whatever it names is still used. A
// refusal (parts joined by ||) is taken away whole and by part; of a permission (joined by &&) each part.
func (m *mark) without(condition ast.Expr, operator token.Token, prefix string) []Mutant {
	parts := flatten(condition, operator)
	var out []Mutant
	if operator == token.LOR || len(parts) == 1 {
		out = append(out, m.constant(condition, prefix))
	}
	if len(parts) == 1 {
		return out
	}
	for _, part := range slices.Backward(parts) { // what restricts mostly comes last
		if !isNilCheck(part) {
			out = append(out, m.constant(part, prefix))
		}
	}
	return out
}

// isNilCheck reports whether a part only keeps the others from a panic.
func isNilCheck(part ast.Expr) bool {
	binary, ok := part.(*ast.BinaryExpr)
	if !ok || binary.Op != token.EQL {
		return false
	}
	name, ok := binary.Y.(*ast.Ident)
	return ok && name.Name == "nil"
}

func (m *mark) constant(part ast.Expr, prefix string) Mutant {
	text := m.text(part)
	value, _, _ := strings.Cut(prefix, " ")
	out := m.mutant(oneLine(text)+" → "+value, m.replace(part.Pos(), part.End(), "("+prefix+"("+text+"))"))
	out.Seen = unseen(m.place(), text)
	return out
}

// flatten returns the operands of a chain of one operator.
func flatten(node ast.Expr, operator token.Token) []ast.Expr {
	if binary, ok := node.(*ast.BinaryExpr); ok && binary.Op == operator {
		return append(flatten(binary.X, operator), flatten(binary.Y, operator)...)
	}
	return []ast.Expr{node}
}

// withoutCompares drops compares of a transaction that stand on the marked line.
func (m *mark) withoutCompares() []Mutant {
	var out []Mutant
	ast.Inspect(m.path[len(m.path)-1], func(node ast.Node) bool {
		var elements []ast.Expr
		switch node := node.(type) {
		case *ast.CompositeLit:
			elements = node.Elts
		case *ast.CallExpr:
			if name, ok := node.Fun.(*ast.Ident); ok && name.Name == "append" {
				elements = node.Args[1:]
			}
			if call, ok := node.Fun.(*ast.SelectorExpr); ok && call.Sel.Name == "Do" {
				elements = node.Args[1:]
			}
		}
		for _, element := range elements {
			if m.lineOf(element.Pos()) == m.line && m.isCompare(element) {
				out = append(out, m.mutant(oneLine(m.text(element))+" dropped", m.replace(element.Pos(), m.afterComma(element.End()), "")))
			}
		}
		return true
	})
	return out
}

func (m *mark) isCompare(node ast.Expr) bool {
	call, ok := node.(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	from, ok := selector.X.(*ast.Ident)
	name := selector.Sel.Name
	if name == "lockHead" { // what a database compares by making others wait
		return true
	}
	return ok && from.Name == "kv" && (strings.HasSuffix(name, "Is") || strings.HasSuffix(name, "AtMost"))
}

// afterComma returns the position after the comma that follows an element, if one does.
func (m *mark) afterComma(end token.Pos) token.Pos {
	if at := m.offset(end); at < len(m.src) && m.src[at] == ',' {
		return end + 1
	}
	return end
}

// withoutReturn gives the permissive answer, or goes on where the mark's return would have ended.
func (m *mark) withoutReturn(node *ast.ReturnStmt) ([]Mutant, error) {
	if len(node.Results) != 1 {
		return nil, fmt.Errorf("mutants: %v returns several values", m)
	}
	if name, ok := node.Results[0].(*ast.Ident); ok && name.Name == "nil" {
		return []Mutant{m.mutant("return nil → goes on", m.replace(node.Pos(), node.End(), ""))}, nil
	}
	name := m.function.Name.Name
	if !decides(name) {
		return nil, fmt.Errorf("mutants: %v: say in mutate.go which answer of %s permits", m, name)
	}
	if permits(name) {
		return m.without(node.Results[0], token.LAND, "true || "), nil
	}
	return m.without(node.Results[0], token.LOR, "false && "), nil
}

// withoutEffect replaces an effect by what follows its success.
func (m *mark) withoutEffect(node *ast.ExprStmt) ([]Mutant, error) {
	if call, ok := node.X.(*ast.CallExpr); ok && len(call.Args) == 1 {
		if effect, ok := call.Args[0].(*ast.CompositeLit); ok {
			if next, known := steps(m.text(effect.Type)); known {
				return []Mutant{m.mutant(m.text(effect.Type)+" left out", m.replace(node.Pos(), node.End(), "_ = "+m.text(effect)+"; "+next))}, nil
			}
		}
	}
	return nil, fmt.Errorf("mutants: %v: say in mutate.go what goes on without this effect", m)
}

func (m *mark) mutant(what string, edit Edit) Mutant {
	return Mutant{Fence: m.fence, Note: m.note, Place: m.place(), Line: m.line, What: what, Edits: []Edit{edit}}
}

func (m *mark) replace(from, to token.Pos, text string) Edit {
	start, end := m.offset(from), m.offset(to)
	return Edit{File: m.file, Start: start, End: end, Old: string(m.src[start:end]), Text: text}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
