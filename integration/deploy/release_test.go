package deploy

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/stretchr/testify/require"
)

const releaseVersion = "v0.0.0-test"

// releaseFolder is where the one release is that all tests look at.
var releaseFolder string

// release makes it once, from the sources as they lie here.
var release = sync.OnceValue(func() error {
	out, err := exec.Command("../../tools/release", releaseVersion, releaseFolder).CombinedOutput()
	if err != nil {
		return fmt.Errorf("tools/release: %w: %s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	var err error
	if releaseFolder, err = os.MkdirTemp("", "release"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(releaseFolder)
	os.Exit(code)
}

func released(t *testing.T, name string) string {
	t.Helper()
	require.NoError(t, release())
	return filepath.Join(releaseFolder, name)
}

// The same sources make the same bytes, in another folder, without version control, with another home and time zone.
func TestAReleaseIsReproducible(t *testing.T) {
	elsewhere, out := filepath.Join(t.TempDir(), "sources"), t.TempDir()
	require.NoError(t, os.MkdirAll(elsewhere, 0o755))
	listed, err := exec.CommandContext(t.Context(), "git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(listed), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed
		}
		require.NoError(t, err)
		info, err := os.Stat(filepath.Join("../..", name))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(elsewhere, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(elsewhere, name), data, info.Mode()))
	}
	command := exec.CommandContext(t.Context(), filepath.Join(elsewhere, "tools/release"), releaseVersion, out)
	command.Env = append(os.Environ(), "TZ=Asia/Tokyo", "LC_ALL=C", "CGO_ENABLED=1", "GOFLAGS=-buildvcs=true")
	text, err := command.CombinedOutput()
	require.NoError(t, err, "%s", text)

	first, err := os.ReadFile(released(t, "SHA256SUMS"))
	require.NoError(t, err)
	second, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	require.NoError(t, err)
	require.Equal(t, string(first), string(second))
}

func TestTheChecksumsAreThoseOfAllFiles(t *testing.T) {
	text, err := os.ReadFile(released(t, "SHA256SUMS"))
	require.NoError(t, err)
	summed := []string{"SHA256SUMS"}
	for line := range strings.Lines(string(text)) {
		sum, name, found := strings.Cut(strings.TrimSpace(line), "  ")
		require.True(t, found, line)
		data, err := os.ReadFile(released(t, name))
		require.NoError(t, err)
		digest := sha256.Sum256(data)
		require.Equal(t, hex.EncodeToString(digest[:]), sum, name)
		summed = append(summed, strings.TrimPrefix(name, "./"))
	}
	entries, err := os.ReadDir(filepath.Dir(released(t, "SHA256SUMS")))
	require.NoError(t, err)
	for _, entry := range entries {
		require.Contains(t, summed, entry.Name())
	}
	require.Len(t, entries, len(summed))
}

// The bill of materials names the binary by its checksum, and every module that is in it.
func TestTheBillOfMaterialsIsThatOfTheBinary(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		path := released(t, "cdc-node-linux-"+arch)
		data, err := os.ReadFile(path + ".cdx.json")
		require.NoError(t, err)
		var bill cdx.BOM
		require.NoError(t, cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&bill))
		binary, err := os.ReadFile(path)
		require.NoError(t, err)
		digest := sha256.Sum256(binary)
		require.Equal(t, hex.EncodeToString(digest[:]), (*bill.Metadata.Component.Hashes)[0].Value)
		require.Equal(t, releaseVersion, bill.Metadata.Component.Version)

		info, err := buildinfo.ReadFile(path)
		require.NoError(t, err)
		require.Greater(t, len(info.Deps), 40)
		require.Len(t, *bill.Components, len(info.Deps)+1)
		for _, module := range info.Deps {
			require.True(t, slices.ContainsFunc(*bill.Components, func(one cdx.Component) bool {
				return one.PackageURL == "pkg:golang/"+module.Path+"@"+module.Version
			}), module.Path)
		}
		for _, setting := range info.Settings {
			require.NotContains(t, setting.Key, "vcs", "it differs between a checkout and an archive")
		}
	}
}

// Both binaries say what they are; the one for arm64 does so under an emulator. Neither needs anything to run: the image
// is made from scratch.
func TestTheBinariesRun(t *testing.T) {
	for arch, command := range map[string][]string{
		"amd64": {released(t, "cdc-node-linux-amd64")},
		"arm64": {needed(t, "qemu-aarch64-static", "qemu-aarch64"), released(t, "cdc-node-linux-arm64")},
	} {
		run := exec.CommandContext(t.Context(), command[0], append(command[1:], "version")...)
		run.Env = []string{}
		out, err := run.CombinedOutput()
		require.NoError(t, err, "%s: %s", arch, out)
		require.Contains(t, string(out), "cdc-node "+releaseVersion+" ")
		require.Contains(t, string(out), "linux/"+arch)

		file, err := elf.Open(released(t, "cdc-node-linux-"+arch))
		require.NoError(t, err)
		libraries, err := file.ImportedLibraries()
		require.NoError(t, err)
		require.Empty(t, libraries, "linked dynamically")
		require.NoError(t, file.Close())
	}
}
