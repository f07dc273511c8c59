package embeddedpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// unprivileged is the account to run PostgreSQL as, which refuses to run as root: nil for this process's own. It must be
// one that the system knows by name, for initdb looks it up.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil || account.Uid == "0" {
			continue
		}
		uid, err := strconv.ParseUint(account.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(account.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no account postgres or nobody to run it as: " +
		"add one, start this as another user, or set DATABASE_URL")
}

// own gives a folder to the account; nil leaves it as it is.
func own(dir string, account *syscall.Credential) error {
	if account == nil {
		return nil
	}
	return os.Lchown(dir, int(account.Uid), int(account.Gid))
}
