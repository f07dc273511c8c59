package embeddedpg

import "syscall"

// memory is a folder that lies in memory and has room for the databases of tests, "" if there is none. A database of
// ours is hundreds of files, and to make one on a disk takes ten times the processor time. A container's usual 64 MiB do
// not count as room.
func memory() string {
	const (
		dir   = "/dev/shm"
		tmpfs = 0x01021994
		room  = 2 << 30 // several test binaries at once, with a few hundred MiB each
	)
	var at syscall.Statfs_t
	if syscall.Statfs(dir, &at) != nil || at.Type != tmpfs || at.Bavail*uint64(at.Bsize) < room { //nolint:gosec // a size is not negative
		return ""
	}
	return dir
}
