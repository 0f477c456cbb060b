// Package kvetcd is [kv.Store] on a real etcd. It sends every mutation once: the client's own retries are switched off,
// and an answer that was lost is reported as [fence.ErrUnknown] for the caller to resolve. Each watch is a stream of its
// own, read no faster than its reader takes it, so that a slow reader costs no memory. The package decides nothing about
// records; it knows requests.
package kvetcd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Defaults of Config.
const (
	KeepAliveTimeDefault    = 10 * time.Second
	KeepAliveTimeoutDefault = 3 * time.Second
	// SendBytesMax is above what etcd takes by default (1.5 MiB), so that etcd refuses, with a definite error.
	SendBytesMax = 8 * 1024 * 1024
	// ReceiveBytesMax: an answer that is refused for its size would hide the outcome of a transaction, so there is no
	// bound here. Reads are bounded by their limit, and watch responses by fragments.
	ReceiveBytesMax = math.MaxInt32
	// unaryAttemptsMax is 1: the client's interceptor otherwise sends a transaction again when the server answered
	// "deadline exceeded" or "cancelled" a moment before the context itself ended.
	unaryAttemptsMax = 1
)

// Config says how to reach etcd.
type Config struct {
	Endpoints []string
	User      string // "" for none
	Password  string
	TLS       *tls.Config // nil for plain text
	// KeepAliveTime and KeepAliveTimeout find dead connections. 0 is the default.
	KeepAliveTime    time.Duration
	KeepAliveTimeout time.Duration
	Logger           *zap.Logger // of the client library; nil silences it
	// Options are added to the connection's own, such as the windows of a reader of much data.
	Options []grpc.DialOption
}

func (c *Config) validate() error {
	var errs []error
	if len(c.Endpoints) == 0 {
		errs = append(errs, errors.New("no endpoints"))
	}
	if (c.User == "") != (c.Password == "") {
		errs = append(errs, errors.New("a user needs a password, and a password a user"))
	}
	if c.KeepAliveTime < 0 || c.KeepAliveTimeout < 0 {
		errs = append(errs, errors.New("negative keepalive"))
	}
	return errors.Join(errs...)
}

// Dial makes a client that never sends a mutation twice by itself. It does not wait for a connection: requests wait for
// one, until their context ends.
func Dial(config Config) (*clientv3.Client, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("kvetcd: dial: %w", err)
	}
	logger := config.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	options := []grpc.DialOption{grpc.WithDisableRetry(), grpc.WithChainUnaryInterceptor(askLeader)}
	var tokens *tokenSource
	if config.User != "" {
		tokens = newTokenSource(config.User, config.Password)
		options = append(options, grpc.WithPerRPCCredentials(tokens),
			grpc.WithChainUnaryInterceptor(tokens.watchUnary), grpc.WithChainStreamInterceptor(tokens.watchStream))
	}
	options = append(options, config.Options...)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            config.Endpoints,
		DialKeepAliveTime:    orDefault(config.KeepAliveTime, KeepAliveTimeDefault),
		DialKeepAliveTimeout: orDefault(config.KeepAliveTimeout, KeepAliveTimeoutDefault),
		// etcd counts pings without a stream as too many, and ends the connection.
		PermitWithoutStream: false,
		MaxCallSendMsgSize:  SendBytesMax,
		MaxCallRecvMsgSize:  ReceiveBytesMax,
		MaxUnaryRetries:     unaryAttemptsMax,
		TLS:                 config.TLS,
		DialOptions:         options,
		Logger:              logger,
	})
	if err != nil {
		return nil, fmt.Errorf("kvetcd: dial: %w", err)
	}
	if tokens != nil {
		tokens.connect(client.ActiveConnection())
	}
	return client, nil
}

func orDefault(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}
