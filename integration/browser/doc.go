// Package browser has tests only: the console in a headless Chromium, against real nodes and a real etcd. Each action is
// clicked, and its effect looked for in etcd. It is a module of its own, so that the server's has no browser in it.
//
//	go test ./...          # needs Chromium: tools/install has it
//	go test . -shots       # writes the pictures of docs/img anew
package browser
