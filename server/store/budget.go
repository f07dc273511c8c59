package store

import (
	"context"
	"fmt"
)

// AddSpent counts calls made with a credential in the present hour. tokenKey names the credential;
// it is not a secret. Hours older than two days are forgotten.
func (s *Store) AddSpent(ctx context.Context, tokenKey string, calls int64) error {
	_, err := s.pool.Exec(ctx, `
		with old as (
			delete from signedapproval_api_budgets where token_key = $1 and hour < now() - interval '2 days')
		insert into signedapproval_api_budgets as b (token_key, hour, spent) values ($1, date_trunc('hour', now()), $2)
		on conflict (token_key, hour) do update set spent = b.spent + excluded.spent`, tokenKey, calls)
	if err != nil {
		return fmt.Errorf("store: count calls: %w", err)
	}
	return nil
}

// Spent estimates, from above, the calls made with a credential in the last sixty minutes: those of
// the present hour, and of the hour before the share that may still lie within. known is false
// where nothing has ever been counted.
func (s *Store) Spent(ctx context.Context, tokenKey string) (calls int64, known bool, err error) {
	err = s.pool.QueryRow(ctx, `
		select count(*) > 0, coalesce(ceil(sum(
			case when hour = date_trunc('hour', now()) then spent
			     when hour = date_trunc('hour', now()) - interval '1 hour'
			     then spent * (1 - extract(epoch from now() - date_trunc('hour', now())) / 3600)
			     else 0 end)), 0)::bigint
		from signedapproval_api_budgets where token_key = $1`, tokenKey).Scan(&known, &calls)
	if err != nil {
		return 0, false, fmt.Errorf("store: spent calls: %w", err)
	}
	return calls, known, nil
}
