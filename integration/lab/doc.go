// Package lab gives suites a network of machines inside of this one: namespaces with an address each on one bridge, from
// which packets can be kept. All of it lives in namespaces of the test's own, so that nothing of the machine's is touched
// and no process is left when the tests end. It needs root, and knows nothing of what runs on its hosts.
package lab
