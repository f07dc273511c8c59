package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// MostDeliveryDays is for how many days deliveries can be kept: a week of the ring is emptied before it comes again.
	MostDeliveryDays = 42
	// DeliveryDays is for how many days they are kept unless Store.DeliveryDays says otherwise.
	DeliveryDays = 30
	// deliveryWeeks is how many partitions the ring of deliveries has.
	deliveryWeeks = 8
	// ForgetBatch is how many rows of a table one call of ForgetExpired deletes: however much has piled up, no transaction
	// becomes long by that.
	ForgetBatch = 2000
)

// ForgetExpired deletes what has no use any more, at most [ForgetBatch] rows of each kind: keys that waited in vain,
// ended sessions, ceremonies, consents, tickets and stream tokens, done jobs of more than 30 days ago, and what
// credentials spent two days ago. Nothing of it was decided or logged.
func (sh *Shared) ForgetExpired(ctx context.Context) error {
	for _, old := range []struct{ table, which string }{
		{"sessions", "expires_at < now()"},
		{"oauth_states", "expires_at < now()"},
		{"pending_grants", "expires_at < now()"},
		{"challenges", "expires_at < now()"},
		{"tickets", "expires_at < now()"},
		{"stream_tokens", "expires_at < now()"},
		{"jobs", "state = 'DONE' and holder is null and updated_at < now() - interval '30 days'"},
		{"api_budgets", "hour < now() - interval '2 days'"},
	} {
		// The condition stands twice: a row may have changed since it was found.
		statement := fmt.Sprintf(`delete from signedapproval_%[1]s where ctid = any(array(select ctid from signedapproval_%[1]s where %[2]s limit $1)) and %[2]s`, old.table, old.which)
		sh.tx.later(statement, ForgetBatch)
	}
	return sh.ForgetWaiting(ctx)
}

// ForgetDeliveries empties the weeks of which every delivery came longer ago than the days for which they are kept, and
// answers how many weeks that were. A week that somebody reads, such as a backup, is left for the next time: nobody is
// made to wait behind it.
func (s *Store) ForgetDeliveries(ctx context.Context) (emptied int, err error) {
	keep := time.Duration(s.DeliveryDays) * 24 * time.Hour
	if s.DeliveryDays == 0 {
		keep = DeliveryDays * 24 * time.Hour
	}
	// The newest of each week, by one look at its index.
	rows, err := s.pool.Query(ctx, `select week from generate_series(0, $1 - 1) as week
		where (select max(d.received_at) from signedapproval_deliveries d where d.week = week.week) < now() - $2::interval`, deliveryWeeks, keep)
	if err != nil {
		return 0, fmt.Errorf("store: old deliveries: %w", err)
	}
	weeks, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return 0, fmt.Errorf("store: old deliveries: %w", err)
	}
	for _, week := range weeks {
		done, err := s.emptyWeek(ctx, week, keep)
		if err != nil {
			return emptied, fmt.Errorf("store: empty week %d of the deliveries: %w", week, err)
		}
		if done {
			emptied++
		}
	}
	return emptied, nil
}

func (s *Store) emptyWeek(ctx context.Context, week int, keep time.Duration) (done bool, err error) {
	table := fmt.Sprintf("signedapproval_deliveries_%d", week)
	err = s.Outside(ctx, func(sh *Shared) error {
		if _, err := sh.tx.Exec(ctx, `lock table `+table+` in access exclusive mode nowait`); err != nil {
			return err
		}
		// Another server may have emptied it, and a delivery have come, since it was found.
		if err := sh.tx.QueryRow(ctx, `select max(received_at) < now() - $1::interval from `+table+` having max(received_at) is not null`, keep).Scan(&done); err != nil || !done {
			return err
		}
		_, err := sh.tx.Exec(ctx, `truncate `+table)
		return err
	})
	var pgErr *pgconn.PgError
	if errors.Is(err, pgx.ErrNoRows) || errors.As(err, &pgErr) && pgErr.Code == "55P03" {
		return false, nil
	}
	return done, err
}
