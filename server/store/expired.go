package store

import (
	"context"
	"fmt"
)

// ForgetExpired deletes what has no use any more: keys that waited in vain, ended sessions, ceremonies, consents, tickets
// and stream tokens, and deliveries and done jobs of more than 30 days ago, and what credentials spent two days ago.
func (sh *Shared) ForgetExpired(ctx context.Context) error {
	for _, statement := range []string{
		`delete from signedapproval_sessions where expires_at < now()`,
		`delete from signedapproval_oauth_states where expires_at < now()`,
		`delete from signedapproval_pending_grants where expires_at < now()`,
		`delete from signedapproval_challenges where expires_at < now()`,
		`delete from signedapproval_tickets where expires_at < now()`,
		`delete from signedapproval_stream_tokens where expires_at < now()`,
		`delete from signedapproval_deliveries where received_at < now() - interval '30 days'`,
		`delete from signedapproval_jobs where state = 'DONE' and holder is null and updated_at < now() - interval '30 days'`,
		`delete from signedapproval_api_budgets where hour < now() - interval '2 days'`,
	} {
		if _, err := sh.tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("store: forget what expired: %w", err)
		}
	}
	return sh.ForgetWaiting(ctx)
}
