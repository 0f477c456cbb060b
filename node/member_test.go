package node

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"
)

// endMax is what a start that timed out may take to end.
const endMax = 30 * time.Second

// freeURL is of a port that is free now.
func freeURL(t *testing.T) string {
	t.Helper()
	port, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, port.Close())
	return "http://" + port.Addr().String()
}

// ends runs a start that can't come to an end, and returns what it said.
func ends(t *testing.T, config Config) error {
	t.Helper()
	config, err := config.withDefaults()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := startMember(ctx, config, zap.NewNop())
		failed <- err
	}()
	select {
	case err := <-failed:
		return err
	case <-time.After(endMax):
		require.FailNow(t, "a start that timed out goes on")
		return nil
	}
}

// A member without a majority was closed before it was stopped, which waits for a server that waits until the member is
// ready: the node neither served nor ended.
func TestAMemberWithoutAMajorityEndsWithItsStart(t *testing.T) {
	peer := freeURL(t)
	err := ends(t, Config{Name: "n1", DataDir: t.TempDir(), Member: Member{
		ListenClient: freeURL(t), ListenPeer: peer,
		InitialCluster: fmt.Sprintf("n1=%s,n2=%s,n3=%s", peer, freeURL(t), freeURL(t)),
	}})
	require.ErrorContains(t, err, "no majority of its members runs")
}

// A second process on the same folder waited without end for the database of the first.
func TestAMemberWhoseDatabaseIsTakenEndsWithItsStart(t *testing.T) {
	config, err := Config{Name: "n1", DataDir: t.TempDir(), Member: Member{ListenClient: freeURL(t), ListenPeer: freeURL(t)}}.withDefaults()
	require.NoError(t, err)
	member, err := startMember(t.Context(), config, zap.NewNop())
	require.NoError(t, err)
	t.Cleanup(member.Close)
	config.Member.ListenClient, config.Member.ListenPeer = freeURL(t), freeURL(t)
	err = ends(t, config)
	require.ErrorContains(t, err, config.DataDir)
}

// A machine with several addresses dialled from the nearest one, which the certificate that it showed doesn't name: the others
// refused the member, and it never became ready.
func TestAMemberDialsFromTheAddressThatItListensOn(t *testing.T) {
	for name, c := range map[string]struct {
		listen, advertise string
		fromIt            bool
	}{
		"one of several":       {"https://10.0.0.3:2380", "", true},
		"behind a translation": {"https://0.0.0.0:2380", "https://10.0.0.3:2380", false},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := Config{Name: "n3", AllowOpenAPI: true, Member: Member{ListenPeer: c.listen, AdvertisePeer: c.advertise}}.withDefaults()
			require.NoError(t, err)
			settings := embed.NewConfig()
			listen, err := url.Parse(config.Member.ListenPeer)
			require.NoError(t, err)
			advertise, err := url.Parse(config.Member.AdvertisePeer)
			require.NoError(t, err)
			settings.ListenPeerUrls, settings.AdvertisePeerUrls = []url.URL{*listen}, []url.URL{*advertise}
			require.NoError(t, memberSource(settings))
			require.Equal(t, c.fromIt, settings.ServerFeatureGate.Enabled(features.SetMemberLocalAddr))
		})
	}
}
