package app_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/dbtest"
)

// TestAServerForgetsOldDeliveries: by itself, after as many days as it was told.
func TestAServerForgetsOldDeliveries(t *testing.T) {
	t.Parallel()
	config := logConfig(t)
	for days, good := range map[int]bool{-1: false, 0: true, 1: true, 42: true, 43: false} {
		config.DeliveryDays = days
		if err := config.Validate(); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "SIGNEDAPPROVAL_DELIVERY_DAYS") {
			t.Errorf("%d days: %v", days, err)
		}
	}
	db := dbtest.New(t)
	config.DatabaseURL, config.DeliveryDays = db.AppURL, 10
	conn, err := pgx.Connect(t.Context(), db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	// One of each day.
	if _, err := conn.Exec(t.Context(), `insert into signedapproval_deliveries (request_uuid, week, workspace_id, repository_id, event_key, attempt, outcome, body, received_at)
		select gen_random_uuid(), signedapproval_delivery_week(at), gen_random_uuid(), gen_random_uuid(), 'e', 1, 'PARSED', '\x00', at
		from (select now() - day * interval '1 day' as at from generate_series(0, 39) day) days`); err != nil {
		t.Fatal(err)
	}
	_, stop := serving(t, config)
	defer stop()
	// What is old enough is gone, and what is young enough is all there; in between a week is kept for its youngest.
	var old, young int
	eventually(t, "old deliveries are forgotten", func() bool {
		if err := conn.QueryRow(t.Context(), `select count(*) filter (where received_at < now() - interval '18 days'), count(*) filter (where received_at > now() - interval '10 days')
			from signedapproval_deliveries`).Scan(&old, &young); err != nil {
			t.Fatal(err)
		}
		return old == 0
	})
	if young != 10 {
		t.Errorf("%d young deliveries are there, want 10", young)
	}
}
