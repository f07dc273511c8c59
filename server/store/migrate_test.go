package store_test

import (
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/internal/dbtest"
	"github.com/signedapproval/bitbucket/migrations"
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
	must(t, s.CheckSchema(t.Context()))
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

func TestCheckSchema(t *testing.T) {
	t.Parallel()
	h := open(t)
	newest, err := migrations.Newest()
	must(t, err)
	must(t, h.CheckSchema(t.Context()))
	versions := migrations.VersionTable
	h.super(t, `insert into `+versions+` (version_id, is_applied) values ($1, true)`, newest+1)
	must(t, h.CheckSchema(t.Context())) // newer, and nothing was taken away
	h.super(t, `update signedapproval_schema_floor set version = $1`, newest)
	must(t, h.CheckSchema(t.Context()))
	h.super(t, `update signedapproval_schema_floor set version = $1`, newest+1)
	wantError(t, "something was taken away", h.CheckSchema(t.Context()), store.ErrSchemaTooNew)
	h.super(t, `delete from `+versions+` where version_id >= $1`, newest)
	wantError(t, "a migration is missing", h.CheckSchema(t.Context()), store.ErrSchemaTooOld)

	never := dbtest.NewEmpty(t)
	wantError(t, "nothing was migrated", reopen(t, never.AppURL, store.NewKeyset()).CheckSchema(t.Context()), store.ErrSchemaTooOld)
}
