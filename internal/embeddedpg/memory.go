//go:build !linux

package embeddedpg

// memory is a folder that lies in memory, and only Linux has one that is always there.
func memory() string { return "" }
