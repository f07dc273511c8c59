package app

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// reloadOnHangup reads the keyset again at each SIGHUP, so that a new primary key reaches servers
// while they serve. A keyset that cannot be read or used leaves the present one in place.
func (s *Server) reloadOnHangup(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			keyset, err := s.config.ReadKeyset()
			if err == nil {
				err = s.store.Vault.Reload(keyset)
			}
			if err != nil {
				s.log.ErrorContext(ctx, "the keyset was not read again; the present one stays", "error", err)
				continue
			}
			s.log.InfoContext(ctx, "the keyset was read again")
		}
	}()
}
