package store_test

import (
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/server/store"
)

func TestMigrateIsIdempotentAndSafeAtOnce(t *testing.T) {
	t.Parallel()
	database := dbtest.NewEmpty(t)
	var all sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		all.Go(func() { errs[i] = store.Migrate(t.Context(), database.OwnerURL) })
	}
	all.Wait()
	for _, err := range errs {
		must(t, err)
	}
	must(t, store.Migrate(t.Context(), database.OwnerURL))

	s := reopen(t, database.AppURL, store.NewKeyset())
	applied, wanted, err := s.SchemaVersion(t.Context())
	must(t, err)
	if wanted < 1 {
		t.Errorf("wanted version %d", wanted)
	}
	same(t, "applied version", applied, wanted)
	epoch, err := s.QueueEpoch(t.Context())
	must(t, err)
	same(t, "epoch, which the migration inserts once", epoch, int64(1))
}

func TestMigrateAsALoginThatMayNot(t *testing.T) {
	t.Parallel()
	database := dbtest.NewEmpty(t)
	if err := store.Migrate(t.Context(), database.AppURL); err == nil {
		t.Error("the application's login made the schema")
	}
}
