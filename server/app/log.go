package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// publish makes the publisher of the log's checkpoints.
func (s *Server) publish(keys *witness.Keys) (*witness.Publisher, error) {
	options := witness.Options{
		Log: logOf(s.store), Keys: keys, Quorum: s.config.LogWitnessQuorum, Logger: s.log,
		Observe: s.meters.publication, ObserveWitness: s.meters.witness,
	}
	var err error
	if s.config.LogSink != "" {
		if options.Sink, err = witness.OpenSink(s.config.LogSink); err != nil {
			return nil, err
		}
	}
	if options.Witnesses, err = witness.ParseWitnesses(s.config.LogWitnesses); err != nil {
		return nil, err
	}
	return witness.New(options), nil
}

// Codes with which a server does not start.
const (
	codeLogBehind  = "LOG_BEHIND_SINK"       // the database lost leaves that were published
	codeLogFork    = "LOG_NOT_AS_PUBLISHED"  // the database has other leaves than were published
	codeSinkLacks  = "SINK_LACKS_CHECKPOINT" // the sink has not what was published last
	codeSinkUnread = "SINK_CANNOT_BE_READ"   // the sink is out of reach, or what is in it cannot be read
)

const (
	// compareTime is how long the log and its sink have to answer when a server starts.
	compareTime = 10 * time.Second
	// comparePause is about when it is tried once more.
	comparePause = time.Second
)

// compareLog makes sure, before anything is served, that the log is what its sink has. A server that would publish
// nothing does not start; once it serves, it is not ready for as long as that is so.
func (s *Server) compareLog(ctx context.Context) error {
	if s.publisher.Sink == nil {
		return nil
	}
	compare := func() error {
		ctx, cancel := context.WithTimeout(ctx, compareTime)
		defer cancel()
		return s.publisher.Check(ctx)
	}
	err := compare()
	if err == nil {
		return nil
	}
	s.log.WarnContext(ctx, "the log could not be compared with its sink, or is not what was published; once more", "error", err)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(comparePause/2 + rand.N(comparePause)):
	}
	return notStarted(compare())
}

// notStarted gives what is wrong with the log or its sink a code, and says how to go on.
func notStarted(err error) error {
	const adopt = "`signedapproval log adopt-sink`"
	switch {
	case errors.Is(err, witness.ErrBehind):
		return refusal.New(codeLogBehind, "the server does not start: look for the leaves that the database lost; %s goes on with no sink that is ahead of the log", adopt).Because(err)
	case errors.Is(err, witness.ErrFork):
		return refusal.New(codeLogFork, "the server does not start: a person has to find out who changed the log; %s goes on with no sink that has another one", adopt).Because(err)
	case errors.Is(err, witness.ErrSinkLacks):
		return refusal.New(codeSinkLacks, "the server does not start: once a person has looked why, %s goes on with this sink", adopt).Because(err)
	case errors.Is(err, witness.ErrSinkUnread):
		return refusal.New(codeSinkUnread, "the server does not start: the sink has to be there; to go on with another one, set it and run %s", adopt).Because(err)
	case err != nil:
		return fmt.Errorf("compare the log with its sink: %w", err)
	}
	return nil
}

// logOf hands the log of a store to the publisher: the two packages stand on one floor.
func logOf(s *store.Store) witness.Log {
	found := func(c store.Checkpoint, err error) (*witness.Checkpoint, error) {
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		return &witness.Checkpoint{Head: witness.Head(c.TreeHead), Note: c.Note}, err
	}
	return witness.Log{
		Size: s.LogSize,
		Grow: func(ctx context.Context) (was, head witness.Head, err error) {
			before, after, err := s.GrowTree(ctx)
			return witness.Head(before), witness.Head(after), err
		},
		Root: func(ctx context.Context, size int64) (tlog.Hash, error) {
			return tlog.TreeHash(size, s.Tree(ctx))
		},
		Prove: func(ctx context.Context, size, old int64) (tlog.TreeProof, error) {
			return tlog.ProveTree(size, old, s.Tree(ctx))
		},
		Newest: func(ctx context.Context) (*witness.Checkpoint, error) { return found(s.NewestCheckpoint(ctx)) },
		Cosigned: func(ctx context.Context, witnesses []string, quorum int) (*witness.Checkpoint, error) {
			return found(s.CosignedCheckpoint(ctx, witnesses, quorum))
		},
		Put: func(ctx context.Context, head witness.Head, signed []byte, cosignatures []witness.Cosignature) error {
			lines := make([]store.Cosignature, 0, len(cosignatures))
			for _, c := range cosignatures {
				lines = append(lines, store.Cosignature(c))
			}
			return s.PutCheckpoint(ctx, store.TreeHead(head), signed, lines...)
		},
		Cosign: func(ctx context.Context, size int64, c witness.Cosignature) error {
			return s.PutCosignature(ctx, size, store.Cosignature(c))
		},
		Unpublished: s.Unpublished,
	}
}

type logCommand struct {
	NewKey    logNewKeyCommand    `cmd:"" help:"Make a key that signs the log's checkpoints: print the private key, and the public one to the error output."`
	AdoptSink logAdoptSinkCommand `cmd:"" help:"Go on with a sink that lacks what was published, such as a new one: put the newest checkpoint into it."`
}

type logNewKeyCommand struct {
	Origin string `arg:"" help:"The name of the log, such as approvals.example/log."`
	MLDSA  bool   `name:"ml-dsa" help:"Make an ML-DSA-44 key, to sign beside the Ed25519 one."`
}

// Run prints a private key, which is a secret, apart from its verifier key, which is not.
func (c *logNewKeyCommand) Run(s streams) error {
	make := witness.NewKey
	if c.MLDSA {
		make = witness.NewMLDSAKey
	}
	private, verifier, err := make(c.Origin)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, private)
	if err == nil {
		_, err = fmt.Fprintln(s.err, "verifier key:", verifier)
	}
	return err
}

type logAdoptSinkCommand struct {
	DatabaseURL string `help:"PostgreSQL, as the server connects to it." env:"DATABASE_URL" required:""`
	LogOrigin   string `help:"The name of the log." env:"SIGNEDAPPROVAL_LOG_ORIGIN" required:""`
	LogSink     string `help:"The sink." env:"SIGNEDAPPROVAL_LOG_SINK" required:""`
}

// adoptTime is how long the sink and the database may take.
const adoptTime = time.Minute

// Run adopts the sink. Nothing that it reads or writes is sealed, so it needs no keyset.
func (c *logAdoptSinkCommand) Run(ctx context.Context, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, adoptTime)
	defer cancel()
	sink, err := witness.OpenSink(c.LogSink)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, c.DatabaseURL, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	size, err := witness.AdoptSink(ctx, logOf(db), c.LogOrigin, sink)
	if err != nil {
		return err
	}
	if size < 0 {
		_, err = fmt.Fprintln(s.out, "nothing of this log was published yet, and so the sink lacks nothing")
	} else {
		_, err = fmt.Fprintf(s.out, "%s has the checkpoint %d, the newest on record\n", sink, size)
	}
	return err
}
