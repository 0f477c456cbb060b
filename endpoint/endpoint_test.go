package endpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
)

func mustParse(t *testing.T, text string) URI {
	t.Helper()
	uri, err := Parse(text, Policy{Field: "source", Literals: AllowLiterals})
	require.NoError(t, err)
	return uri
}

func TestParseReadsWhatTheFormsSay(t *testing.T) {
	for text, want := range map[string]struct {
		record, path, user, secret string
		hosts                      []string
	}{
		"etcd://h:2379/orders/":                    {"etcd://h:2379/orders/", "/orders/", "", "", []string{"h:2379"}},
		"ETCD://H,b:1/orders":                      {"etcd://h:2379,b:1/orders", "/orders", "", "", []string{"h:2379", "b:1"}},
		"etcd://127.0.0.1:2379/":                   {"etcd://127.0.0.1:2379/", "/", "", "", []string{"127.0.0.1:2379"}},
		"etcd://[::1]:2379/a%2Fb%20%00%ff/":        {"etcd://[::1]:2379/a/b%20%00%FF/", "/a/b \x00\xff/", "", "", []string{"[::1]:2379"}},
		"etcd://[::1]/a":                           {"etcd://[::1]:2379/a", "/a", "", "", []string{"[::1]:2379"}},
		"etcd://h?prefix=p/":                       {"etcd://h:2379/?prefix=p/", "p/", "", "", []string{"h:2379"}},
		"etcd://h/?prefix=":                        {"etcd://h:2379/?prefix=", "", "", "", []string{"h:2379"}},
		"etcd://u:${env:PW}@h/p":                   {"etcd://u:${env:PW}@h:2379/p", "/p", "u", "${env:PW}", []string{"h:2379"}},
		"etcd://u:${file:/run/a@b:/c?d#e}@h/p":     {"etcd://u:${file:/run/a@b:/c?d#e}@h:2379/p", "/p", "u", "${file:/run/a@b:/c?d#e}", []string{"h:2379"}},
		"etcd://u%40x:p%40%2Fw@h/p":                {"etcd://u%40x:p%40%2Fw@h:2379/p", "/p", "u@x", "xxxxx", []string{"h:2379"}},
		"postgres://u:${env:PW}@db/shop?sslmode=a": {"postgres://u:${env:PW}@db:5432/shop?sslmode=a", "shop", "u", "${env:PW}", []string{"db:5432"}},
		"mysql://u@db:3307/shop":                   {"mysql://u@db:3307/shop", "shop", "u", "", []string{"db:3307"}},
		"file:///var/lib//orders/../x/":            {"file:///var/lib/x", "/var/lib/x", "", "", nil},
		"stdout:":                                  {"stdout:", "", "", "", nil},
		"stdout://":                                {"stdout:", "", "", "", nil},
		"blackhole:":                               {"blackhole:", "", "", "", nil},
	} {
		t.Run(text, func(t *testing.T) {
			uri := mustParse(t, text)
			require.Equal(t, want.record, uri.Record())
			require.Equal(t, want.path, string(uri.Path))
			require.Equal(t, want.user, uri.User)
			require.Equal(t, want.secret, uri.Password.String())
			require.Equal(t, want.hosts, uri.Hosts)
			again := mustParse(t, uri.Record())
			require.True(t, uri.Equal(again))
			require.Equal(t, uri.String(), Redact(uri.Record()))
		})
	}
}

func TestParseRefusesWithACureAndWithoutTheSecret(t *testing.T) {
	for text, detail := range map[string]string{
		"":                                  "is empty",
		"orders":                            "no scheme",
		"http://h/":                         "no scheme",
		"etcd://h:2379":                     "has no prefix",
		"etcd:///p":                         "host that is empty",
		"etcd://h:0/p":                      "port",
		"etcd://h:99999/p":                  "port",
		"etcd://h,h/p":                      "twice",
		"etcd://h/p?x=1":                    "parameter that etcd",
		"etcd://h/p?prefix=q":               "both",
		"etcd://h/p#frag":                   "fragment",
		"etcd://h/%zz":                      "percent-encoded",
		"etcd://h/a b":                      "spaces",
		"etcd://h/a\x00b":                   "control",
		"etcd://h/\xff":                     "UTF-8",
		"etcd://u:hunter2@h/p":              "literal password",
		"etcd://u:hun/ter2@h/p":             "@ in its path",
		"etcd://u:1/hunter2@h/p":            "@ in its path",
		"etcd://u:1?hunter2@h/p":            "@ among",
		"etcd://u:@h/p":                     "password that is empty",
		"etcd://:hunter2@h/p":               "user that is empty",
		"etcd://u:hunter2${env:A}@h/p":      "only in part",
		"etcd://u:${env:hunter2@h/p":        "doesn't end",
		"etcd://u:${vault:hunter2}@h/p":     "neither",
		"etcd://u:${env:9}@h/p":             "not made of letters",
		"etcd://u:${file:rel}@h/p":          "not absolute",
		"etcd://${env:U}:${env:P}@h/p":      "more than one",
		"etcd://${env:U}@h/p":               "outside the password",
		"etcd://h/${env:P}":                 "outside the password",
		"postgres://u@h/d?password=hunter2": "secret among",
		"postgres://u@h/":                   "one database",
		"file://host/dir":                   "doesn't take",
		"file:relative":                     "absolute directory",
		"stdout:x":                          "doesn't take",
		"etcd://h/" + strings.Repeat("a", TextBytesMax): "more than",
		"etcd://h/" + strings.Repeat("a", 2000):         "more than",
	} {
		t.Run(fmt.Sprintf("%.60q", text), func(t *testing.T) {
			_, err := Parse(text, Policy{Field: "source"})
			fault := changefeed.AsFault(err, "")
			require.Equal(t, changefeed.CodeRequestInvalid, fault.Code)
			require.Contains(t, fault.Detail, detail)
			require.Equal(t, "source", fault.Field)
			require.NotEmpty(t, fault.Cure)
			if !strings.Contains(text, "${") {
				require.NotContains(t, err.Error(), "hunter2")
			}
		})
	}
}

func TestParseTakesOnlyTheSchemesOfThePolicy(t *testing.T) {
	_, err := Parse("postgres://u@h/d", Policy{Field: "source", Schemes: []Scheme{Etcd}})
	require.ErrorContains(t, err, "write etcd://")
	require.NotContains(t, err.Error(), "mysql://")
}

func TestNoWayOfPrintingShowsALiteral(t *testing.T) {
	uri := mustParse(t, "etcd://u:hunter2@h:2379/p/")
	encoded, err := json.Marshal(uri)
	require.NoError(t, err)
	for _, text := range []string{
		uri.String(), fmt.Sprintf("%v %+v %#v %s %q", uri, uri, uri, uri, uri), fmt.Sprintf("%v %#v %+v", uri.Password, uri.Password, &uri),
		string(encoded), Redact("etcd://u:hunter2@h:2379/p/"), Redact("u:hunter2@h"), Redact("postgres://h/d?Password=hunter2&a=b"),
	} {
		require.NotContains(t, text, "hunter2")
		require.Contains(t, text, Redacted)
	}
	require.Contains(t, uri.Record(), "hunter2")
	require.Equal(t, "etcd://u:${env:A@B}@h/", Redact("etcd://u:${env:A@B}@h/"))
}

func TestSecretResolvesOnTheNode(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	resolve := func(reference string) (string, error) {
		return mustParse(t, "etcd://u:"+reference+"@h/p").Password.Resolve()
	}
	t.Setenv("ENDPOINT_PW", "s3 cret")
	t.Setenv("ENDPOINT_EMPTY", "")
	for reference, want := range map[string]string{
		"${env:ENDPOINT_PW}":                       "s3 cret",
		"${file:" + write("a", "one\n") + "}":      "one",
		"${file:" + write("b", "two\r\n") + "}":    "two",
		"${file:" + write("c", " three\n\n") + "}": " three\n",
		"literal%20one":                            "literal one",
	} {
		got, err := resolve(reference)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for reference, detail := range map[string]string{
		"${env:ENDPOINT_MISSING}":              "is not set",
		"${env:ENDPOINT_EMPTY}":                "is not set",
		"${file:" + dir + "}":                  "regular file",
		"${file:" + dir + "/none}":             "no such file",
		"${file:" + write("empty", "\n") + "}": "is empty",
		"${file:" + write("big", strings.Repeat("x", SecretBytesMax+1)) + "}": "too large",
	} {
		_, err := resolve(reference)
		require.ErrorContains(t, err, detail)
		fault := changefeed.AsFault(err, "")
		require.NotEmpty(t, fault.Cure)
		require.False(t, fault.Permanent)
	}
	none, err := Secret{}.Resolve()
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestLoops(t *testing.T) {
	here := Store{Hosts: []string{"127.0.0.1:2379"}}
	same := Store{Hosts: []string{"h:1", "localhost:2379"}}
	there := Store{Hosts: []string{"127.0.0.1:2380"}}
	uri := func(path string) URI { return URI{Scheme: Etcd, Hosts: []string{"h:2379"}, Path: []byte(path)} }
	refused := func(err error) bool {
		if err == nil {
			return false
		}
		require.Equal(t, changefeed.CodeSinkLoop, changefeed.AsFault(err, "").Code)
		require.True(t, changefeed.AsFault(err, "").Permanent)
		return true
	}
	for _, c := range []struct {
		source, sink string
		other        Store
		loop         bool
	}{
		{"/a/", "/b/", same, false},
		{"/a/", "/a/", same, true},
		{"/a/", "/a/b/", same, true},
		{"/a/b/", "/a/", same, true},
		{"/", "/b/", same, true},
		{"/", "b/", same, true}, // by the claims
		{"", "/b/", same, true},
		{"/a/", "", same, true},
		{"/cdc-claims/", "/b/", same, true},
		{"/a/", "/a/", there, false},
		{"/", "b/", there, false},
	} {
		require.Equal(t, c.loop, refused(CheckLoop(uri(c.source), uri(c.sink), here, c.other)), "%v", c)
	}
	require.True(t, refused(CheckSource(uri("/cdc/"), here, same)))
	require.True(t, refused(CheckSource(uri("/cdc/default/"), here, same)))
	require.False(t, refused(CheckSource(uri("/cdc/"), here, there)))
	require.False(t, refused(CheckSource(uri("/"), here, same)))
	require.False(t, refused(CheckSource(URI{Scheme: Postgres}, here, same)))
	require.True(t, refused(CheckSink(uri("/cdc/x/"), here, there)))
	require.True(t, refused(CheckSink(uri("/cdc-claims/"), here, there)))
	require.True(t, refused(CheckSink(uri("/"), here, same)))
	require.False(t, refused(CheckSink(uri("/"), here, there)))
	require.False(t, refused(CheckSink(uri("/b/"), here, same)))
	require.False(t, refused(CheckSink(URI{Scheme: File}, here, same)))
	require.False(t, refused(CheckLoop(uri("/a/"), URI{Scheme: File}, here, here)))
	shop, copied := URI{Scheme: Postgres, Path: []byte("shop")}, URI{Scheme: Postgres, Path: []byte("copied")}
	asked := Store{ClusterID: "7/1", Hosts: here.Hosts} // the source alone says which server it is
	require.True(t, refused(CheckLoop(shop, shop, asked, Store{Hosts: here.Hosts})))
	require.False(t, refused(CheckLoop(shop, shop, asked, Store{Hosts: []string{"elsewhere:5432"}})))
	require.False(t, refused(CheckLoop(shop, copied, asked, Store{Hosts: here.Hosts})))
	require.False(t, refused(CheckLoop(shop, URI{Scheme: MySQL, Path: []byte("shop")}, asked, Store{Hosts: here.Hosts})))
}

func TestClusterIDsDecideBeforeHosts(t *testing.T) {
	hosts := []string{"h:1"}
	require.False(t, Store{ClusterID: "a", Hosts: hosts}.Same(Store{ClusterID: "b", Hosts: hosts}))
	require.True(t, Store{ClusterID: "a"}.Same(Store{ClusterID: "a", Hosts: hosts}))
	require.True(t, Store{ClusterID: "a", Hosts: hosts}.Same(Store{Hosts: hosts}))
	require.False(t, Store{}.Same(Store{}))
}

func TestPrefixSpan(t *testing.T) {
	require.Equal(t, changefeed.Whole(), PrefixSpan(nil))
	require.Equal(t, changefeed.Span{Start: []byte("/a/"), End: []byte("/a0")}, PrefixSpan([]byte("/a/")))
	require.Equal(t, changefeed.Span{Start: []byte("a\xff"), End: []byte("b")}, PrefixSpan([]byte("a\xff")))
	require.Equal(t, changefeed.Span{Start: []byte("\xff")}, PrefixSpan([]byte("\xff")))
}

func TestTLSOptions(t *testing.T) {
	config, err := TLS(nil)
	require.NoError(t, err)
	require.Nil(t, config)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, options := range []changefeed.Options{
		{OptionTLSCA: "/does/not/exist"},
		{OptionTLSCA: empty},
		{OptionTLSCert: empty},
		{OptionTLSKey: empty},
		{OptionTLSCert: empty, OptionTLSKey: empty},
	} {
		_, err := TLS(options)
		require.ErrorContains(t, err, "can't be used on this node")
	}
	require.Error(t, changefeed.Options{OptionTLSCA: "relative"}.Validate(TLSOptions()))
	require.NoError(t, changefeed.Options{OptionTLSCA: "/abs"}.Validate(TLSOptions()))
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"etcd://u:${env:PW}@h:2379,i:1/p/", "etcd://h?prefix=p%2F", "postgres://u:pw@h/d?a=b", "file:///a/b", "stdout:",
		"etcd://u:a/b@c@h/p", "etcd://u:${file:/a@b}@[::1]/p", "etcd://u:p%40@h/%00", "${env:A", "a:b@c?password=d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := Parse(text, Policy{Literals: AllowLiterals})
		_ = Redact(text)
		if err != nil {
			return
		}
		again, err := Parse(uri.Record(), Policy{Literals: AllowLiterals})
		require.NoError(t, err, uri.Record())
		require.Equal(t, uri, again)
		require.Equal(t, uri.String(), Redact(uri.Record()))
		require.Equal(t, uri.String(), Redact(uri.String()))
		_, err = Parse(text, Policy{})
		require.Equal(t, uri.Password.Literal(), err != nil)
	})
}
