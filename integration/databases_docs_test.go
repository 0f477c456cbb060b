//go:build databases

package integration

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What pages about databases show is typed at a PostgreSQL and a MariaDB of the test's own: the commands at a node, the
// statements as their administrators.
func TestDatabasesCommandsOfThePageRun(t *testing.T) {
	d := startDatabases(t)
	source := startEtcd(t, "source")
	for _, name := range []string{"COPY", "READER", "WRITER"} {
		t.Setenv("PGPASSWORD_"+name, "p@ss")
	}
	c := startNodes(t, startEtcd(t, "control"), 1)
	for page := range inDatabases {
		parts := partsOf(t, page)
		require.True(t, anyShown(parts), page)
		dir := t.TempDir()
		here := strings.NewReplacer("127.0.0.1:2379", source.endpoint, "db.example:5432", d.postgres.Host,
			"pg1.example:5432", d.postgres.Host, "pg2.example:5432", d.postgres.Host, "my.example:3306", d.mariadb.Host)
		cmd := shell(t, dir, inFolder(prelude, dir)+here.Replace(scriptOf(parts, dir)))
		my, err := url.Parse("//" + d.mariadb.Host)
		require.NoError(t, err)
		cmd.Env = append(cmd.Env, "CDC_NODE_SERVER="+c.all[0].url(), "SOURCE="+source.endpoint,
			"POSTGRES="+d.postgres.Host, "MARIADB_HOST="+my.Hostname(), "MARIADB_PORT="+my.Port())
		runPage(t, page, cmd)
	}
}
