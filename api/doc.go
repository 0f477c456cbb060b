// Package api is the HTTP API of a node: what users ask of changefeeds, and what they are shown. Any node answers
// everything. The package validates requests, builds specs, and derives states from records; it works on a Backend, and
// knows neither etcd nor how a changefeed is run. The JSON is in shape, a typed client in client.
package api
