// Package archtest holds the dependency rule as a test: which room may import which. It has no code of its own.
package archtest
