package store_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
)

// TestRestrictedFunctionsTrustNoTemporaryTable lets the application's login put tables of its own in the
// way of the functions that run with the owner's rights.
func TestRestrictedFunctionsTrustNoTemporaryTable(t *testing.T) {
	t.Parallel()
	database := dbtest.New(t)
	for name, c := range map[string]struct{ table, columns, call string }{
		"unattended": {
			"signedapproval_pull_requests", "workspace_id uuid, id uuid, repository_id uuid, number bigint", `select * from signedapproval_unattended(10)`,
		},
		"sealed workspaces": {
			"signedapproval_bitbucket_connections", "workspace_id uuid, access_token bytea, refresh_token bytea, previous_refresh_token bytea",
			`select * from signedapproval_sealed_workspaces()`,
		},
		"sealed installations": {"signedapproval_installations", "workspace_id uuid, system_token bytea", `select * from signedapproval_sealed_workspaces()`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			conn, err := pgx.Connect(ctx, database.AppURL)
			must(t, err)
			t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
			// A view would run its owner's choice of functions; a table shows whether it would be read at all.
			_, err = conn.Exec(ctx, `create temporary table `+c.table+` (`+c.columns+`)`)
			must(t, err)
			_, err = conn.Exec(ctx, `grant select on pg_temp.`+c.table+` to public`)
			must(t, err)
			_, err = conn.Exec(ctx, `insert into pg_temp.`+c.table+` (workspace_id) values (gen_random_uuid())`)
			must(t, err)
			switch name {
			case "unattended":
				_, err = conn.Exec(ctx, `create temporary table signedapproval_approval_requests (workspace_id uuid, pull_request_id uuid, state text, expires_at timestamptz);
					grant select on pg_temp.signedapproval_approval_requests to public;
					update pg_temp.signedapproval_pull_requests set id = workspace_id, repository_id = workspace_id, number = 1;
					insert into pg_temp.signedapproval_approval_requests select workspace_id, id, 'PENDING', now() - interval '1 hour' from pg_temp.signedapproval_pull_requests`)
				must(t, err)
			case "sealed installations":
				_, err = conn.Exec(ctx, `update pg_temp.signedapproval_installations set system_token = '\x00'`)
				must(t, err)
			default:
				_, err = conn.Exec(ctx, `update pg_temp.signedapproval_bitbucket_connections set access_token = '\x00'`)
				must(t, err)
			}
			rows, err := conn.Query(ctx, c.call)
			must(t, err)
			defer rows.Close()
			if rows.Next() {
				t.Error("the function read a table of its caller")
			}
		})
	}
}
