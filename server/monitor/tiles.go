package monitor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/evidence"
)

const (
	// logPath is where a server has its log.
	logPath = "/log/"
	// height is that of tiles, by C2SP tlog-tiles.
	height = 8
	width  = 1 << height
	// cachedTiles bounds the memory for tiles: 8 KB each.
	cachedTiles = 512
)

// errTiles says that tiles do not belong to the tree of the checkpoint.
var errTiles = errors.New("the tiles are not those of the checkpoint's tree")

// published reads hashes of the log's tree from tiles. Each hash that it gives is proved to be in the tree.
type published struct {
	ctx    context.Context
	client *Client
	proved *lru.Cache[tlog.Tile, []byte]
	tree   tlog.Tree
	failed error // of the last tiles that could not be read
}

func newPublished(ctx context.Context, client *Client, tree tlog.Tree) (*published, error) {
	proved, err := lru.New[tlog.Tile, []byte](cachedTiles)
	if err != nil {
		return nil, err
	}
	return &published{ctx: ctx, client: client, proved: proved, tree: tree}, nil
}

// hashes gives hashes by their places, as [tlog.StoredHashIndex] counts them.
func (p *published) hashes() tlog.HashReader {
	return tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		p.failed = nil
		hashes, err := tlog.TileHashReader(p.tree, p).ReadHashes(places)
		switch {
		case err != nil && p.failed != nil:
			return nil, p.failed
		case err != nil:
			return nil, errTiles
		}
		return hashes, nil
	})
}

// root gives the root of the tree when it had size leaves.
func (p *published) root(size int64) (tlog.Hash, error) {
	if size == p.tree.N {
		return p.tree.Hash, nil
	}
	return tlog.TreeHash(size, p.hashes())
}

// Height is that of the tiles.
func (*published) Height() int { return height }

// ReadTiles reads tiles that may be wrong.
func (p *published) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		body, found := p.proved.Get(tile)
		if !found {
			path := logPath + strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
			body, err = p.client.Get(p.ctx, path, nil, width*tlog.HashSize)
			if err == nil && len(body) != tile.W*tlog.HashSize {
				err = errTiles
			}
			if err != nil {
				p.failed = fmt.Errorf("tile %s: %w", path, err)
				return nil, p.failed
			}
		}
		data = append(data, body)
	}
	return data, nil
}

// SaveTiles keeps tiles that are right.
func (p *published) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, tile := range tiles {
		p.proved.Add(tile, data[i])
	}
}

// errEntries says that entries are not those of the checkpoint's tree.
var errEntries = errors.New("the entries are not those of the checkpoint's tree")

// entries reads the bundle of entries with a number as far as the tree goes, and makes sure that they are the tree's.
func (p *published) entries(number int64) (entries [][]byte, hashes []tlog.Hash, err error) {
	bundle, err := p.fetch(p.ctx, number)
	if err != nil {
		return nil, nil, err
	}
	return p.prove(number, bundle)
}

// wide is how many entries the bundle with a number has in the tree.
func (p *published) wide(number int64) int { return int(min(width, p.tree.N-number*width)) }

// fetch reads the bundle of entries with a number, which may be wrong. Unlike the rest it may be called by several at once.
func (p *published) fetch(ctx context.Context, number int64) ([]byte, error) {
	tile := tlog.Tile{H: height, L: -1, N: number, W: p.wide(number)}
	path := logPath + strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
	bundle, err := p.client.Get(ctx, path, nil, width*(evidence.MaxLeaf+2))
	if err != nil {
		return nil, fmt.Errorf("entries %s: %w", path, err)
	}
	return bundle, nil
}

// prove takes a bundle of entries apart, and makes sure that they are the tree's.
func (p *published) prove(number int64, bundle []byte) (entries [][]byte, hashes []tlog.Hash, err error) {
	wide := p.wide(number)
	for range wide {
		if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
			return nil, nil, errEntries
		}
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		entries, hashes = append(entries, bundle[2:end]), append(hashes, tlog.RecordHash(bundle[2:end]))
		bundle = bundle[end:]
	}
	if len(bundle) > 0 {
		return nil, nil, errEntries
	}
	// A whole bundle has one hash above it that says as much as its 256.
	if wide == width {
		above, err := p.hashes().ReadHashes([]int64{tlog.StoredHashIndex(height, number)})
		if err != nil {
			return nil, nil, err
		}
		if above[0] != perfect(hashes) {
			return nil, nil, errEntries
		}
		return entries, hashes, nil
	}
	places := make([]int64, wide)
	for i := range places {
		places[i] = tlog.StoredHashIndex(0, number*width+int64(i))
	}
	proved, err := p.hashes().ReadHashes(places)
	if err == nil && !slices.Equal(proved, hashes) {
		err = errEntries
	}
	return entries, hashes, err
}

// perfect is the root over hashes whose number is a power of two. It leaves them as they are.
func perfect(hashes []tlog.Hash) tlog.Hash {
	level := slices.Clone(hashes)
	for len(level) > 1 {
		for i := range len(level) / 2 {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
		level = level[:len(level)/2]
	}
	return level[0]
}

// Contains makes sure, from tiles, that the tree of a checkpoint begins with an earlier tree.
func (c *Client) Contains(ctx context.Context, newer, older tlog.Tree) error {
	if older.N > newer.N {
		return fmt.Errorf("the log has %d leaves now, and had %d before", newer.N, older.N)
	}
	if older.N == 0 {
		return nil // every tree begins with the empty one
	}
	reader, err := newPublished(ctx, c, newer)
	if err != nil {
		return err
	}
	root, err := reader.root(older.N)
	if err != nil {
		return err
	}
	if root != older.Hash {
		return fmt.Errorf("the log of %d leaves does not begin with the one of %d", newer.N, older.N)
	}
	return nil
}
