// Package migrations carries the database schema: SQL files applied in order, forward only,
// never edited after a release.
package migrations

import "embed"

// Files holds the SQL migrations in goose's format, one file per version.
//
//go:embed *.sql
var Files embed.FS
