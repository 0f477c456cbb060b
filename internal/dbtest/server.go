package dbtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// startMax is generous: tests run on machines that are busy with others.
	startMax = 60 * time.Second
	// stopMax is how long a server may take to end before it is killed.
	stopMax = 20 * time.Second
)

// Server is a running database server.
type Server struct {
	Host string // host:port
	User string // may do everything; has no password
	// Certs are those of the server's authority. It takes connections with TLS and without.
	Certs Certs
	dir   string
	stop  os.Signal
	cmd   *exec.Cmd
	done  chan error
	logs  bytes.Buffer
}

// loopback is where a server listens that is not told otherwise.
const loopback = "127.0.0.1"

// place is what a server is prepared with.
type place struct {
	dir, ip, port string
	as            *syscall.Credential
}

// start makes a folder, lets prepare fill it, and runs the command that prepare returns.
func start(owner, ip string, prepare func(place) (*exec.Cmd, error)) (*Server, error) {
	as, err := credential(owner)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fencerow-db-")
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	s := &Server{dir: dir, done: make(chan error, 1)}
	if as != nil {
		err = os.Chown(dir, int(as.Uid), int(as.Gid))
	}
	if err == nil {
		s.Certs, err = certify(dir, as)
	}
	at := place{dir: dir, ip: ip, as: as}
	if err == nil {
		at.port, err = freePort(ip)
	}
	if err == nil {
		s.cmd, err = prepare(at)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.Host = net.JoinHostPort(ip, at.port)
	s.cmd.Stdout, s.cmd.Stderr = &s.logs, &s.logs
	s.cmd.SysProcAttr = attributes(as)
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("dbtest: %w", err), os.RemoveAll(dir))
	}
	go func() { s.done <- s.cmd.Wait() }()
	return s, nil
}

// ready waits until ping succeeds.
func (s *Server) ready(ping func() error) error {
	limit := time.NewTimer(startMax)
	defer limit.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ping()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case ended := <-s.done:
			s.done <- ended
			return fmt.Errorf("dbtest: %s ended: %w\n%s", s.cmd.Path, ended, s.logs.String())
		case <-limit.C:
			return fmt.Errorf("dbtest: %s is not ready: %w", s.cmd.Path, err)
		}
	}
}

// Stop has the server end as an administrator would, with what its clients still wait for, and waits for that.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	limit := time.NewTimer(stopMax)
	defer limit.Stop()
	select {
	case ended := <-s.done:
		s.done <- ended
		return nil
	case <-limit.C:
		return fmt.Errorf("dbtest: %s has not stopped within %v", s.cmd.Path, stopMax)
	}
}

// Close ends the server and removes its data.
func (s *Server) Close() {
	_ = s.cmd.Process.Signal(s.stop)
	select {
	case <-s.done:
	case <-time.After(stopMax):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	_ = os.RemoveAll(s.dir)
}

// attributes end a server with the tests, however these end.
func attributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// run runs a program that prepares a server.
func run(at place, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Dir = at.dir
	cmd.SysProcAttr = attributes(at.as)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dbtest: %s: %w\n%s", program, err, out)
	}
	return nil
}

// credential is that of an unprivileged user, if we are privileged: servers refuse to run as root.
func credential(owner string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup(owner)
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w: install the server's package, which brings its user", err)
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// find returns a program's path, from the first of the patterns that matches or from PATH.
func find(program, install string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("dbtest: %s is missing: apt-get install %s, or run tools/install", program, install)
	}
	return path, nil
}

func freePort(ip string) (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return "", fmt.Errorf("dbtest: %w", err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}
