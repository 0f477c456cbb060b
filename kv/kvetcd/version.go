package kvetcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrOldVersion says that a member of etcd has holes in its authorisation that were mended later.
var ErrOldVersion = errors.New("kvetcd: etcd too old")

// version is major, minor, patch, and 0 for a pre-release or 1 for the release itself.
type version [4]int

func (v version) compare(other version) int {
	for i := range v {
		if order := cmp.Compare(v[i], other[i]); order != 0 {
			return order
		}
	}
	return 0
}

func parseVersion(text string) (version, error) {
	v := version{3: 1}
	core, _, _ := strings.Cut(strings.TrimPrefix(text, "v"), "+")
	core, pre, _ := strings.Cut(core, "-")
	if pre != "" {
		v[3] = 0
	}
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return version{}, fmt.Errorf("kvetcd: version %q: not three numbers", text)
	}
	for i, part := range parts {
		number, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return version{}, fmt.Errorf("kvetcd: version %q: %w", text, err)
		}
		v[i] = int(number)
	}
	return v, nil
}

// CheckVersion refuses etcd below 3.6.14, and 3.7.0, where authorisation can be gone around. A pre-release is older than
// its release.
func CheckVersion(text string) error {
	v, err := parseVersion(text)
	if err != nil {
		return err
	}
	below := func(major, minor, patch int) bool { return v.compare(version{major, minor, patch, 1}) < 0 }
	from := v.compare(version{3, 7, 0, 0}) >= 0
	if below(3, 6, 14) || from && below(3, 7, 1) {
		return fmt.Errorf("%w: %s; at least 3.6.14, or 3.7.1 of 3.7", ErrOldVersion, text)
	}
	return nil
}

// Version returns the version of the oldest member that answers. Members are asked at the endpoints that the client was
// given and at those that they announce, each bounded by ctx alone: give one with a deadline. It fails if no member
// answers.
func (s *Store) Version(ctx context.Context) (string, error) {
	endpoints := s.client.Endpoints()
	seen := make(map[string]bool, len(endpoints))
	for _, endpoint := range endpoints {
		seen[endpoint] = true
	}
	// A user may not be allowed to list the members; the given endpoints must do then.
	if members, err := s.client.MemberList(ctx); err == nil {
		for _, member := range members.Members {
			for _, url := range member.GetClientURLs() {
				if !seen[url] {
					seen[url] = true
					endpoints = append(endpoints, url)
				}
			}
		}
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, len(endpoints))
	statusCtx, cancel := context.WithTimeout(ctx, statusTimeoutMax)
	defer cancel()
	for _, endpoint := range endpoints {
		go func() {
			status, err := s.client.Status(statusCtx, endpoint)
			if err != nil {
				answers <- answer{err: fmt.Errorf("kvetcd: status of %s: %w", endpoint, err)}
				return
			}
			answers <- answer{text: status.Version}
		}()
	}
	var errs []error
	oldest, oldestText := version{}, ""
	for range endpoints {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		v, err := parseVersion(a.text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if oldestText == "" || v.compare(oldest) < 0 {
			oldest, oldestText = v, a.text
		}
	}
	if oldestText == "" {
		return "", errors.Join(errs...)
	}
	return oldestText, nil
}
