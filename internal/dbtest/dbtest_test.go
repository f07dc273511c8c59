package dbtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	first, second := dbtest.New(t), dbtest.New(t)
	if first.Name == second.Name {
		t.Fatalf("both databases are called %s", first.Name)
	}
	if _, err := connect(t, first.AppURL).Exec(t.Context(), `update signedapproval_queue_epoch set epoch = 77`); err != nil {
		t.Fatal(err)
	}
	var epoch int64
	if err := connect(t, second.AppURL).QueryRow(t.Context(), `select epoch from signedapproval_queue_epoch`).Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	if epoch != 1 {
		t.Errorf("epoch in the second database = %d after a change in the first, want 1", epoch)
	}
}

func TestLogins(t *testing.T) {
	t.Parallel()
	database := dbtest.New(t)
	for _, test := range []struct {
		name, url            string
		super, owner, member bool
	}{
		{"application", database.AppURL, false, false, true},
		{"owner", database.OwnerURL, false, true, false},
		{"superuser", database.SuperURL, true, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var super, owner, member bool
			err := connect(t, test.url).QueryRow(t.Context(), `
				select r.rolsuper,
					exists (select from pg_class c where c.relname = 'signedapproval_jobs' and c.relowner = r.oid),
					pg_has_role(r.oid, 'signedapproval_app', 'usage')
				from pg_roles r where r.rolname = current_user`).Scan(&super, &owner, &member)
			if err != nil {
				t.Fatal(err)
			}
			if super != test.super || owner != test.owner || member != test.member {
				t.Errorf("superuser, owner, member of signedapproval_app = %t, %t, %t; want %t, %t, %t",
					super, owner, member, test.super, test.owner, test.member)
			}
		})
	}
}

func TestDatabaseIsDroppedWhenItsTestEnds(t *testing.T) {
	t.Parallel()
	outer := dbtest.New(t)
	var name string
	if !t.Run("inner", func(t *testing.T) { name = dbtest.NewEmpty(t).Name }) {
		t.FailNow()
	}
	var exists bool
	err := connect(t, outer.SuperURL).QueryRow(t.Context(), `select exists (select from pg_database where datname = $1)`, name).Scan(&exists)
	if err != nil {
		t.Fatal(err)
	}
	if exists {
		t.Errorf("database %s is still there", name)
	}
}
