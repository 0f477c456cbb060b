package proc

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// tailBytesMax is enough for the story of a failure.
const tailBytesMax = 1 << 20

// Tail keeps the last bytes that were written to it. It may be used by several goroutines.
type Tail struct {
	mu   sync.Mutex
	kept []byte
}

// Write implements [io.Writer].
func (b *Tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p...)
	if extra := len(b.kept) - tailBytesMax; extra > 0 {
		b.kept = b.kept[extra:]
	}
	return len(p), nil
}

// String returns what is kept.
func (b *Tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.kept)
}

// Last returns the last n lines.
func (b *Tail) Last(n int) string { return LastLines(b.String(), n) }

// LastLines returns the last n lines of a text.
func LastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Process is a started process whose output is kept.
type Process struct {
	Name   string
	Cmd    *exec.Cmd
	Output *Tail         // of both kinds
	Stdout *Tail         // alone
	Exited chan struct{} // closed when it has ended
	err    error
}

// Start starts a command. It ends with the tests, however these end.
func Start(name string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: name, Cmd: cmd, Output: &Tail{}, Stdout: &Tail{}, Exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(p.Stdout, p.Output), p.Output
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.Exited)
	}()
	return p, nil
}

// Alive says whether it has not ended.
func (p *Process) Alive() bool {
	select {
	case <-p.Exited:
		return false
	default:
		return true
	}
}

// Err returns how it ended, once it has.
func (p *Process) Err() error {
	<-p.Exited
	return p.err
}

// Signal sends a signal; to a process that has ended it does nothing.
func (p *Process) Signal(s syscall.Signal) error {
	if !p.Alive() {
		return nil
	}
	if err := p.Cmd.Process.Signal(s); err != nil && p.Alive() {
		return fmt.Errorf("signal %v to %s: %w", s, p.Name, err)
	}
	return nil
}

// Kill ends the process at once (SIGKILL works on a stopped one too) and waits for it.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() //nolint:errcheck // it may have ended
	<-p.Exited
}

// Signs returns those of some texts that the process wrote.
func (p *Process) Signs(of ...string) []string {
	var found []string
	for _, sign := range of {
		if strings.Contains(p.Output.String(), sign) {
			found = append(found, sign)
		}
	}
	return found
}
