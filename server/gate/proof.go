package gate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// published gives the newest checkpoint with so many cosignatures, after publishing one that covers size leaves.
func (g *Gate) published(ctx context.Context, size int64, cosignatures int) (store.Checkpoint, error) {
	busy := refusal.New(refusal.Busy, "This is being recorded in the log; try again in a moment.")
	if cosignatures > 0 {
		busy = refusal.New(refusal.Busy, "This %s, as its rule asks; try again in a moment.", waitsForWitnesses(cosignatures))
	}
	if err := g.Publish(ctx, size, cosignatures); err != nil {
		return store.Checkpoint{}, busy.Because(err)
	}
	if cosignatures > 0 {
		found, err := g.Cosigned(ctx, size, cosignatures)
		if err != nil {
			return store.Checkpoint{}, busy.Because(err)
		}
		return store.Checkpoint{TreeHead: store.TreeHead(found.Head), Note: found.Note}, nil
	}
	checkpoint, err := g.Store.NewestCheckpoint(ctx)
	if err == nil && checkpoint.Size < size {
		return checkpoint, busy
	}
	return checkpoint, err
}

// prover proves against the tree of one checkpoint. First everything is asked for, then the hashes are
// read at once, then everything is proved: a bundle costs a handful of statements, however long its chain.
type prover struct {
	size   int64
	hashes map[int64]tlog.Hash
}

// proofHashes is how many hashes of the tree are read by one statement.
const proofHashes = 10_000

// newProver reads what proofs of these leaves, by their indexes, and of these earlier trees, by their
// sizes, need.
func newProver(ctx context.Context, tree tlog.HashReader, size int64, leaves, heads []int64) (*prover, error) {
	p := &prover{size: size, hashes: map[int64]tlog.Hash{}}
	var needed []int64
	unread := errors.New("not read yet")
	collect := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		for _, place := range places {
			if _, known := p.hashes[place]; !known {
				p.hashes[place] = tlog.Hash{}
				needed = append(needed, place)
			}
		}
		return nil, unread
	})
	for _, index := range leaves {
		if _, err := tlog.ProveRecord(size, index, collect); err != nil && !errors.Is(err, unread) {
			return nil, fmt.Errorf("prove leaf %d: %w", index, err)
		}
	}
	for _, head := range heads {
		if _, err := tlog.ProveTree(size, head, collect); err != nil && !errors.Is(err, unread) {
			return nil, fmt.Errorf("prove the tree of %d leaves: %w", head, err)
		}
	}
	for len(needed) > 0 {
		batch := needed[:min(len(needed), proofHashes)]
		hashes, err := tree.ReadHashes(batch)
		if err != nil {
			return nil, err
		}
		for i, place := range batch {
			p.hashes[place] = hashes[i]
		}
		needed = needed[len(batch):]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ReadHashes gives what was read.
func (p *prover) ReadHashes(places []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(places))
	for i, place := range places {
		hash, known := p.hashes[place]
		if !known {
			return nil, fmt.Errorf("hash %d of the tree was not asked for", place)
		}
		hashes[i] = hash
	}
	return hashes, nil
}

func (p *prover) inclusion(index int64) (evidence.Inclusion, error) {
	proof, err := tlog.ProveRecord(p.size, index, p)
	return evidence.Inclusion{Index: index, Proof: evidence.ProofOf(proof)}, err
}

func (p *prover) consistency(head evidence.LogHead) (evidence.Consistency, error) {
	root, err := hex.DecodeString(string(head.Root))
	if err != nil {
		return evidence.Consistency{}, err
	}
	proof, err := tlog.ProveTree(p.size, head.Size, p)
	return evidence.Consistency{Size: head.Size, Root: root, Proof: evidence.ProofOf(proof)}, err
}
