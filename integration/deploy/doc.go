// Package deploy holds what a release and an installation consist of beside the binary (alert rules, a dashboard,
// manifests, a systemd unit, the bill of materials) to what the binary is and measures, with the parsers and types of those
// who will read it. That needs many modules, so it is a module of its own.
package deploy
