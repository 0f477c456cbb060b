// Command sbom writes the bill of materials of a Go binary, as CycloneDX JSON: what the linker recorded in it, and nothing
// that differs from one run to the next.
//
//	sbom BINARY VERSION > BINARY.cdx.json
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// bill is what of CycloneDX 1.6 a Go binary needs.
type bill struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	Hashes     []hash     `json:"hashes,omitempty"`
	URL        string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

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
	made := billOf(info, filepath.Base(path), version)
	made.Metadata.Component.Hashes = []hash{{Algorithm: "SHA-256", Content: sum}}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(made)
}

func digest(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the binary: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// billOf lists the modules of a binary, in the linker's order, which is that of their paths.
func billOf(info *debug.BuildInfo, name, version string) bill {
	components := []component{library("std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		one := library(module.Path, module.Version)
		one.Properties = []property{{Name: "go.sum", Value: module.Sum}}
		components = append(components, one)
	}
	whole := component{Ref: name, Type: "application", Name: name, Version: version}
	for _, setting := range info.Settings {
		whole.Properties = append(whole.Properties, property{Name: "go.build." + setting.Key, Value: setting.Value})
	}
	needs := dependency{Ref: name}
	for _, one := range components {
		needs.DependsOn = append(needs.DependsOn, one.Ref)
	}
	return bill{
		Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{Component: whole}, Components: components,
		Dependencies: []dependency{needs},
	}
}

func library(path, version string) component {
	url := "pkg:golang/" + path + "@" + version
	return component{Ref: url, Type: "library", Name: path, Version: version, URL: url}
}
