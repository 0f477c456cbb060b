// Package deploy has what a release and an installation consist of beside the binary: alert rules and a dashboard,
// manifests, a systemd unit, the bill of materials. Its tests hold all of it to what the binary is and measures, with the
// parsers and types of those who will read it; they need many modules for that, so they are a module of their own.
package deploy
