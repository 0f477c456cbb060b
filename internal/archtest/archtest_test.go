package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "fencerow"

// rooms says what of ours each package may import, without its tests. A package that isn't listed is refused, so that
// a new room comes with its rule.
var rooms = map[string][]string{
	"certs":      {},
	"fence":      {},
	"changefeed": {},
	"change":     {},
	"record":     {"fence", "changefeed", "change"},
	"message":    {"fence", "changefeed", "change", "record"},
	"kv":         {"fence"},
	"kv/kvetcd":  {"kv", "fence", "internal/failpoint"},
	"kv/kvmem":   {"kv", "fence"},
	"kv/kvtest":  {"kv", "kv/kvetcd", "kv/kvmem", "fence"},
	"endpoint":   {"certs", "changefeed"},

	"trace":      {"fence", "changefeed"},
	"trace/otlp": {"trace"},

	"epochstore": {"fence", "changefeed", "change", "record", "kv", "internal/wait"},

	"coordinator": {"fence", "trace", "changefeed", "change", "record"},
	"maintainer":  {"fence", "trace", "changefeed", "change", "record", "message", "source", "sink", "internal/failpoint"},
	"dispatcher":  {"fence", "trace", "changefeed", "change", "record", "message", "source", "sink", "internal/failpoint"},

	"source":                   {"fence", "changefeed", "change"},
	"source/sourcetest":        {"fence", "changefeed", "change", "source"},
	"source/serial":            {"fence", "changefeed", "change", "source", "internal/wait"},
	"source/serial/serialtest": {"fence", "changefeed", "change", "source", "source/serial"},
	"source/etcd":              {"fence", "changefeed", "change", "source", "endpoint", "kv", "kv/kvetcd"},
	"sink":                     {"fence", "changefeed", "change"},
	"sink/sinktest":            {"fence", "changefeed", "change", "sink"},
	"sink/etcd":                {"fence", "changefeed", "change", "sink", "endpoint", "kv", "kv/kvetcd"},
	"sink/file":                {"fence", "changefeed", "change", "sink", "endpoint", "codec", "internal/wait"},
	"sink/stdout":              {"fence", "changefeed", "change", "sink", "endpoint", "codec"},
	"sink/blackhole":           {"fence", "changefeed", "change", "sink", "endpoint"},
	"codec":                    {"fence", "changefeed", "change"},
	"redo":                     {"fence", "changefeed", "change", "sink", "sink/file", "endpoint"},

	"verify":                {"change"},
	"verify/verifyetcd":     {"change", "kv", "verify"},
	"verify/verifysql":      {"kv", "verify", "verify/verifyetcd"},
	"verify/verifypostgres": {"change", "verify", "verify/verifysql", "internal/pgdial", "internal/wait"},
	"verify/verifymysql":    {"verify", "verify/verifysql", "internal/mydial", "internal/wait"},
	"verify/verifytables": {
		"change", "source/postgres", "sink/sqlsink", "sink/postgres", "sink/mysql", "verify", "verify/verifysql", "verify/verifypostgres",
	},

	"sink/sqlsink":         {"fence", "changefeed", "change", "sink", "internal/failpoint", "internal/wait"},
	"sink/sqlsink/sqltest": {"fence", "changefeed", "change", "sink", "sink/sinktest", "sink/sqlsink", "endpoint", "internal/dbtest"},
	"source/postgres":      {"fence", "changefeed", "change", "source", "endpoint", "internal/pgdial"},
	"sink/mysql":           {"fence", "changefeed", "change", "sink", "sink/sqlsink", "endpoint", "internal/mydial"},
	"sink/postgres":        {"fence", "changefeed", "change", "sink", "sink/sqlsink", "endpoint", "internal/pgdial"},

	"peer":        {"fence", "changefeed", "change", "record", "message", "peer/peerpb"},
	"peer/peerpb": {},

	"api":         {"fence", "changefeed", "change", "record", "endpoint", "api/client", "api/console", "api/shape", "internal/wait"},
	"api/console": {},
	"api/client":  {"certs", "fence", "changefeed", "change", "record", "api/shape"},
	"api/shape":   {"fence", "changefeed", "change", "record"},
	"node":        {"*"},

	"node/records": {"fence", "changefeed", "record", "epochstore", "coordinator", "maintainer"},

	"cmd/cdc-node":                 {"*"},
	"integration":                  {"*"},
	"internal/dbtest":              {},
	"internal/archtest":            {},
	"internal/failpoint":           {},
	"internal/mydial":              {"changefeed", "endpoint"},
	"internal/pgdial":              {"changefeed", "endpoint"},
	"internal/wait":                {},
	"internal/mutants":             {},
	"internal/mutants/cmd/mutants": {"internal/mutants"},
	"internal/sbom":                {},
	"internal/sim":                 {"*"},
	"bench":                        {"*"},
}

// outside says who may import a module that is kept behind one door. A package matches by prefix.
var outside = []struct {
	module  string
	allowed []string
}{
	{"go.etcd.io/etcd", []string{"kv/kvetcd", "kv/kvtest", "source/etcd", "sink/etcd", "node", "cmd/cdc-node", "integration", "bench"}},
	{"go.opentelemetry.io", []string{"trace/otlp"}},
	{"google.golang.org/grpc", []string{"peer", "kv/kvetcd", "source/etcd", "integration"}},
	{"github.com/prometheus", []string{"api", "coordinator", "maintainer", "dispatcher", "peer", "epochstore", "node", "integration", "bench"}},
	{"github.com/go-sql-driver", []string{"verify/verifymysql", "internal/mydial", "sink/mysql", "internal/dbtest", "integration"}},
	{"github.com/jackc/pgx", []string{"verify/verifypostgres", "internal/pgdial", "source/postgres", "sink/postgres", "internal/dbtest", "integration", "bench"}},
	{"github.com/cockroachdb/pebble", []string{"source/serial"}},
	{"log", nil},
	{"log/slog", nil},
	{"github.com/pkg/errors", nil},
}

type listed struct {
	ImportPath string
	Imports    []string
	Doc        string
	Name       string
	Error      *struct{ Err string }
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Doc,Name,Error", module+"/...").Output()
	require.NoError(t, err)
	decoder := json.NewDecoder(bytes.NewReader(out))
	var all []listed
	for {
		var one listed
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, one)
	}
}

func TestEachRoomImportsOnlyWhatItsRuleAllows(t *testing.T) {
	all := packages(t)
	require.Greater(t, len(all), 10, "the module's packages were not found")
	for _, one := range all {
		room := strings.TrimPrefix(one.ImportPath, module+"/")
		for _, problem := range faults(room, one.Imports) {
			t.Error(problem)
		}
	}
}

func TestEachPackageSaysWhatItIs(t *testing.T) {
	for _, one := range packages(t) {
		if one.Name != "main" && len(one.Imports) > 0 && len(one.Doc) < 40 {
			t.Errorf("%s has no package comment that a newcomer can act on", one.ImportPath)
		}
	}
}

func TestTheRuleObjects(t *testing.T) {
	require.NotEmpty(t, faults("coordinator", []string{module + "/epochstore"}))
	require.NotEmpty(t, faults("fence", []string{module + "/changefeed"}))
	require.NotEmpty(t, faults("coordinator", []string{"go.etcd.io/etcd/client/v3"}))
	require.NotEmpty(t, faults("dispatcher", []string{"log"}))
	require.NotEmpty(t, faults("a/new/room", nil))
	require.Empty(t, faults("kv/kvetcd", []string{module + "/kv", "go.etcd.io/etcd/client/v3"}))
}

// faults returns what is wrong with a room's imports.
func faults(room string, imports []string) []string {
	allowed, found := rooms[room]
	if !found {
		allowed, found = parentRule(room)
	}
	if !found {
		return []string{room + " has no rule: say in archtest what it may import"}
	}
	var out []string
	for _, path := range imports {
		if ours, isOurs := strings.CutPrefix(path, module+"/"); isOurs {
			if !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
				out = append(out, room+" must not import "+ours)
			}
			continue
		}
		for _, rule := range outside {
			if under(path, rule.module) && !slices.ContainsFunc(rule.allowed, func(door string) bool { return under(room, door) }) {
				out = append(out, room+" must not import "+path)
			}
		}
	}
	return out
}

// parentRule lets the rooms below a room of suites and tools share its rule.
func parentRule(room string) ([]string, bool) {
	for _, parent := range []string{"integration", "internal/sim", "bench"} {
		if under(room, parent) {
			return rooms[parent], true
		}
	}
	return nil, false
}

func under(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
