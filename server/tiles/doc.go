// Package tiles is the log's public face: the checkpoint, the tiles of the tree and the bundles of entries, as C2SP
// tlog-tiles lays them out below the log's address. It shows what was published and nothing beyond.
package tiles
