package app

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// publish makes the publisher of the log's checkpoints.
func (s *Server) publish(keys *witness.Keys) *witness.Publisher {
	var sink *witness.Directory
	if s.config.LogSink != "" {
		sink = witness.NewDirectory(s.config.LogSink)
	}
	return witness.New(witness.Options{Log: s.tree(), Keys: keys, Sink: sink, Logger: s.log, Observe: s.meters.publication})
}

// tree hands the log of store to the publisher: the two packages stand on one floor.
func (s *Server) tree() witness.Log {
	return witness.Log{
		Size: s.store.LogSize,
		Grow: func(ctx context.Context) (witness.Head, error) {
			head, err := s.store.GrowTree(ctx)
			return witness.Head(head), err
		},
		Root: func(ctx context.Context, size int64) (tlog.Hash, error) {
			return tlog.TreeHash(size, s.store.Tree(ctx))
		},
		Newest: func(ctx context.Context) (witness.Head, bool, error) {
			newest, err := s.store.NewestCheckpoint(ctx)
			if errors.Is(err, store.ErrNotFound) {
				return witness.Head{}, false, nil
			}
			return witness.Head(newest.TreeHead), true, err
		},
		Put: func(ctx context.Context, head witness.Head, signed []byte) error {
			return s.store.PutCheckpoint(ctx, store.TreeHead(head), signed)
		},
		Unpublished: s.store.Unpublished,
	}
}

type logCommand struct {
	NewKey logNewKeyCommand `cmd:"" help:"Make a key that signs the log's checkpoints: print the private key, and the public one to the error output."`
}

type logNewKeyCommand struct {
	Origin string `arg:"" help:"The name of the log, such as approvals.example/log."`
}

// Run prints a private key, which is a secret, apart from its verifier key, which is not.
func (c *logNewKeyCommand) Run(s streams) error {
	private, verifier, err := witness.NewKey(c.Origin)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, private)
	if err == nil {
		_, err = fmt.Fprintln(s.err, "verifier key:", verifier)
	}
	return err
}
