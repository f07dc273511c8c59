// Package monitor is the auditor's side of the log: it reads the log as any stranger can, and says where it is not
// what it should be.
//
// A [Client] reads what a server publishes: checkpoints, tiles and entries, and with an API token the bundles and openings
// of a workspace. A [Monitor] follows the log from its first leaf on and keeps in a folder, its [State], what it needs to
// go on: the newest checkpoint, the hash of every leaf, the end of every chain. Nothing that the server says is believed
// before it was computed from the entries themselves and compared with a checkpoint that the log's key, which
// the auditor pinned, has signed. [Compare] finds out whether two auditors were shown one log.
package monitor
