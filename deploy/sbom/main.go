// Command sbom writes the bill of materials of a Go binary, as CycloneDX JSON: what the linker recorded in it, and nothing
// that differs from one run to the next.
//
//	sbom BINARY VERSION > BINARY.cdx.json
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY VERSION")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(out io.Writer, path, version string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	sum, err := digest(path)
	if err != nil {
		return err
	}
	bill := billOf(info, filepath.Base(path), version)
	bill.Metadata.Component.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}}
	return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bill)
}

func digest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// billOf lists the modules of a binary, in the linker's order, which is that of their paths.
func billOf(info *debug.BuildInfo, name, version string) *cdx.BOM {
	standard := cdx.Component{
		BOMRef: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), Type: cdx.ComponentTypeLibrary, Name: "std",
		Version: strings.TrimPrefix(info.GoVersion, "go"),
	}
	standard.PackageURL = standard.BOMRef
	components, references := []cdx.Component{standard}, []string{standard.BOMRef}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		one := cdx.Component{
			BOMRef: "pkg:golang/" + module.Path + "@" + module.Version, Type: cdx.ComponentTypeLibrary, Name: module.Path,
			Version: module.Version, Properties: &[]cdx.Property{{Name: "go.sum", Value: module.Sum}},
		}
		one.PackageURL = one.BOMRef
		components, references = append(components, one), append(references, one.BOMRef)
	}
	settings := []cdx.Property{}
	for _, setting := range info.Settings {
		settings = append(settings, cdx.Property{Name: "go.build." + setting.Key, Value: setting.Value})
	}
	bill := cdx.NewBOM()
	bill.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: name, Type: cdx.ComponentTypeApplication, Name: name, Version: version, Properties: &settings,
	}}
	bill.Components = &components
	bill.Dependencies = &[]cdx.Dependency{{Ref: name, Dependencies: &references}}
	return bill
}
