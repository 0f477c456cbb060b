package archtest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/kv/kvetcd"
)

// leastVersions are those below which a library may not be: a dependency of a dependency can lower one silently, since
// go.mod's own line is what a careless go get rewrites (vtprotobuf does that to etcd).
var leastVersions = map[string]string{
	"go.etcd.io/etcd/api/v3":     "3.7.3",
	"go.etcd.io/etcd/client/v3":  "3.7.3",
	"go.etcd.io/etcd/server/v3":  "3.7.3",
	"go.etcd.io/etcd/etcdctl/v3": "3.7.3",
	"google.golang.org/grpc":     "1.85.0",
}

func TestLibrariesAreNotLowered(t *testing.T) {
	for path, least := range leastVersions {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-json=Path,Version,Replace", path).Output()
		require.NoError(t, err, path)
		var module struct {
			Version string
			Replace *struct{ Path string }
		}
		require.NoError(t, json.Unmarshal(out, &module))
		require.Nil(t, module.Replace, path)
		require.GreaterOrEqual(t, slices.Compare(numbers(t, module.Version), numbers(t, least)), 0,
			"%s is %s, and must be at least %s", path, module.Version, least)
		if path == "go.etcd.io/etcd/server/v3" {
			require.NoError(t, kvetcd.CheckVersion(strings.TrimPrefix(module.Version, "v")), "the member that is built in must be one that nodes accept")
		}
	}
}

func numbers(t *testing.T, version string) []int {
	t.Helper()
	out := make([]int, 3)
	_, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d.%d", &out[0], &out[1], &out[2])
	require.NoError(t, err, version)
	return out
}
