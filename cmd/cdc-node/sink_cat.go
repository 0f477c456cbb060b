package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/sink/file"
)

func newSinkCat() *cobra.Command {
	var name, namespace, syncPoint string
	var follow bool
	cmd := &cobra.Command{
		Use: "cat URI", Short: "Print the changes that a reader of a file sink is entitled to, as JSON lines", Args: cobra.ExactArgs(1),
		Long: "Print the changes that a reader of a file sink is entitled to, as JSON lines, merged over spans by position and index. A\n" +
			"change that is there twice is printed twice. With --sync-point, everything up to that sync point and nothing above it: the\n" +
			"source as it was at one position. The option sync_point_interval of a changefeed has it record them.",
		Example: "  cdc-node sink cat file:///var/lib/orders --follow",
		RunE: func(cmd *cobra.Command, args []string) error {
			uri, err := endpoint.Parse(args[0], endpoint.Policy{Field: "URI", Schemes: []endpoint.Scheme{endpoint.File, endpoint.Etcd}})
			if err != nil {
				return err
			}
			if uri.Scheme == endpoint.Etcd {
				return keepsNoChanges(uri)
			}
			config := file.ReaderConfig{Directory: string(uri.Path), Mode: file.ReadPresent}
			if follow {
				config.Mode = file.ReadFollow
			}
			cut, err := parseCut(syncPoint, config.Mode)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			if err := cat(ctx, cmd.OutOrStdout(), config, wanted{name: name, namespace: namespace, cut: cut}); err != nil {
				return fmt.Errorf("read %s: %w", uri, err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "changefeed", "", "refuse to read what another changefeed wrote")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", changefeed.DefaultNamespace, "namespace of a name that is written without one")
	cmd.Flags().StringVar(&syncPoint, "sync-point", "", "a recorded position, or last: print everything up to it, and nothing above")
	cmd.Flags().BoolVar(&follow, "follow", false, "wait for more, until Ctrl-C")
	return cmd
}

// keepsNoChanges says how a copy is read.
func keepsNoChanges(uri endpoint.URI) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "URI", Value: uri.String(), Detail: "is a copy, which keeps what the source held and not the changes",
		Cure: "read its prefix with etcdctl get --prefix; as of a sync point, with the --rev that is the mod_revision of " +
			"/cdc-claims/<cluster id>/<namespace>/<name>/syncs/<position>",
	}
}

// wanted is which part of what is there is printed.
type wanted struct {
	name, namespace string // the changefeed; "" for whichever it is
	cut             *change.Position
}

// parseCut reads the flag --sync-point: nil without it, 0 for the last one.
func parseCut(text string, mode file.ReadMode) (*change.Position, error) {
	refused := func(detail, cure string) error {
		return &changefeed.Fault{Code: changefeed.CodeRequestInvalid, Field: "--sync-point", Value: text, Detail: detail, Cure: cure}
	}
	switch {
	case text == "":
		return nil, nil //nolint:nilnil // no cut is wanted
	case mode == file.ReadFollow:
		return nil, refused("is refused with --follow", "leave one of them out: a cut has an end")
	case text == "last":
		return new(change.Position), nil
	}
	at, err := change.ParsePosition(text)
	if err != nil || at == 0 {
		return nil, refused("is not a position", "give a decimal position above 0, or last")
	}
	return &at, nil
}

func cat(ctx context.Context, w io.Writer, config file.ReaderConfig, want wanted) error {
	reader, err := file.OpenReader(config)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	if err := checkChangefeed(reader, want.name, want.namespace); err != nil {
		return err
	}
	if want.cut != nil {
		if _, err := reader.Cut(*want.cut); err != nil {
			return err
		}
	}
	out := bufio.NewWriter(w)
	for {
		item, err := reader.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), err != nil && ctx.Err() != nil:
			return out.Flush()
		case err != nil:
			return errors.Join(err, out.Flush())
		}
		if _, err := out.Write(item.Line); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := out.WriteByte('\n'); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if config.Mode == file.ReadFollow {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	}
}

func checkChangefeed(reader *file.Reader, name, namespace string) error {
	if name == "" {
		return nil
	}
	id, err := changefeed.ParseID(name, namespace)
	if err != nil {
		return err
	}
	if wrote := reader.Identity().Changefeed; wrote != id {
		return &changefeed.Fault{
			Code: changefeed.CodeNotFound, Field: "--changefeed", Value: id.String(),
			Detail: "has written nothing here: this is of " + wrote.String(), Cure: "leave --changefeed out, or give the other directory",
		}
	}
	return nil
}
