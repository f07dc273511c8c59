package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// KindRefresh is the kind of the job that looks after a connection; its key is the workspace. Its
// row in the ledger is also the lease under which tokens are refreshed.
const KindRefresh = "refresh"

const (
	// refreshMargin is how long before its end an access token is no longer handed out.
	refreshMargin = 5 * time.Minute
	// refreshLease outlives the three exchanges that a refresh can take.
	refreshLease = 90 * time.Second
	// refreshPatience is how long a caller waits for another's refresh.
	refreshPatience = 15 * time.Second
	// refreshLook is how often it looks meanwhile.
	refreshLook = 100 * time.Millisecond
	// checkInterval is how often a connection is looked after although nobody uses it: a refresh token
	// dies after three months without use, and rights can be lost without a word.
	checkInterval = 24 * time.Hour
	// storeTries is how often a new pair is tried to be stored: Bitbucket will not give it again.
	storeTries = 5
)

// refreshJob asks for a look after a workspace's connection.
func refreshJob(workspace string, at time.Time) store.JobSpec {
	return store.JobSpec{
		Kind: KindRefresh, Key: workspace, Workspace: workspace,
		Payload: map[string]string{"workspace": workspace}, RunAt: at,
	}
}

// connectionClient gives Bitbucket's API in the name of a workspace's connection. Its token is refreshed
// before it ends, and when Bitbucket refuses it with 401. The refusal NEEDS_RECONNECTING says that the
// grant is dead, NOT_FOUND that the workspace is not connected, TRY_AGAIN that another replica took too
// long over a refresh.
func (w *Workspaces) connectionClient(ctx context.Context, workspace string, class bitbucket.Class) (*bitbucket.Client, error) {
	s, err := w.standing(ctx, workspace)
	if err != nil {
		return nil, err
	}
	return w.connectionClientOf(ctx, workspace, class, s)
}

// connectionClientOf is connectionClient for who has just read how the workspace stands.
func (w *Workspaces) connectionClientOf(ctx context.Context, workspace string, class bitbucket.Class, s standing) (*bitbucket.Client, error) {
	var connection store.Connection
	var err error
	if s.works() && !endsSoon(*s.connection, s.now) {
		connection = *s.connection
	} else {
		connection, err = w.fresh(ctx, workspace, endsSoon)
	}
	if code := refusal.Code(err); code == refusal.BitbucketUnavailable || code == refusal.Busy {
		// Until its time is really over, the access token is as good as it was.
		present, now, failure := w.working(ctx, workspace)
		if failure == nil && present.AccessExpiresAt != nil && present.AccessExpiresAt.After(now.Add(time.Minute)) {
			connection, err = present, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return w.clientOf(connection, class).Renewing(func(ctx context.Context, refused string) (string, error) {
		renewed, err := w.fresh(ctx, workspace, func(c store.Connection, _ time.Time) bool { return string(c.AccessToken) == refused })
		if remote, ok := errors.AsType[*bitbucket.Error](err); ok && remote.Class() == bitbucket.Transient {
			return "", remote // the call may be repeated later, which a 401 would not say
		}
		return string(renewed.AccessToken), err
	}), nil
}

// clientOf is a client with the token of c and no way to get another. The budget is the account's: it
// is the account that Bitbucket counts.
func (w *Workspaces) clientOf(c store.Connection, class bitbucket.Class) *bitbucket.Client {
	return w.api.As(string(c.AccessToken), "account:"+c.AccountUUID, class)
}

// endsSoon tells whether the access token should be replaced before it is used.
func endsSoon(c store.Connection, now time.Time) bool {
	return c.AccessExpiresAt == nil || c.AccessExpiresAt.Before(now.Add(refreshMargin))
}

// fresh reads the connection and, where its tokens are stale, refreshes them or waits for whoever
// does. At most one holder of the lease spends a refresh token.
func (w *Workspaces) fresh(ctx context.Context, workspace string, stale func(store.Connection, time.Time) bool) (store.Connection, error) {
	holder := uuid.NewString()
	patience := time.NewTimer(refreshPatience)
	defer patience.Stop()
	look := time.NewTicker(refreshLook)
	defer look.Stop()
	for {
		c, now, err := w.working(ctx, workspace)
		if err != nil || !stale(c, now) {
			return c, err
		}
		// From here on the work is finished even if the caller goes away: a lease that nobody uses would hold
		// the others up.
		whole := context.WithoutCancel(ctx)
		claim, held, err := w.store.TryLease(whole, KindRefresh, workspace, workspace, holder, refreshLease)
		if err != nil {
			return store.Connection{}, err
		}
		if held {
			return w.refreshUnder(whole, workspace, claim, stale)
		}
		select {
		case <-look.C:
		case <-patience.C:
			return store.Connection{}, refusal.New(refusal.Busy, "The connection to Bitbucket is being refreshed. Please try again.")
		case <-ctx.Done():
			return store.Connection{}, ctx.Err()
		}
	}
}

// working reads a connection that can be used, and the database's time.
func (w *Workspaces) working(ctx context.Context, workspace string) (c store.Connection, now time.Time, err error) {
	s, err := w.standing(ctx, workspace)
	switch {
	case err != nil:
		return store.Connection{}, now, err
	case s.connection == nil:
		return store.Connection{}, s.now, refusal.New(refusal.NotFound, "This workspace is not connected.")
	case s.connection.State == store.ConnectionNeedsReconnecting:
		return store.Connection{}, s.now, needsReconnecting()
	}
	return *s.connection, s.now, nil
}

func needsReconnecting() *refusal.Error {
	return refusal.New(refusal.NeedsReconnecting, "Bitbucket no longer accepts this workspace's connection; an administrator has to connect it again.")
}

// refreshUnder refreshes under a lease of its own and gives it back. ctx does not end with whoever asked.
func (w *Workspaces) refreshUnder(ctx context.Context, workspace string, claim store.Claim, stale func(store.Connection, time.Time) bool) (store.Connection, error) {
	defer func() {
		// A lease that is not given back ends by itself.
		err := w.store.Outside(ctx, func(sh *store.Shared) error { return sh.ReleaseLease(ctx, claim) })
		if err != nil && !errors.Is(err, store.ErrLeaseLost) {
			w.log.WarnContext(ctx, "refresh lease not given back", "workspace", workspace, "error", err)
		}
	}()
	// Whoever held the lease before may have done the work.
	c, now, err := w.working(ctx, workspace)
	if err != nil || !stale(c, now) {
		return c, err
	}
	return w.refresh(ctx, c)
}

// refresh exchanges the connection's refresh token for a new pair and stores it before anybody can
// use it. The caller holds the lease. It is finished even if the caller goes away.
func (w *Workspaces) refresh(ctx context.Context, c store.Connection) (store.Connection, error) {
	ctx = context.WithoutCancel(ctx) // Bitbucket may have rotated when the caller goes away
	pair, previous, err := w.exchange(ctx, c)
	if errors.Is(err, bitbucket.ErrGrantDead) {
		return w.grantDied(ctx, c, err)
	}
	if err != nil {
		return store.Connection{}, exchanged(err)
	}
	return w.keepPair(ctx, c, pair, previous)
}

// exchange spends the refresh token. It also answers which token stays as the previous one.
//
// Bitbucket rotates: an exchange whose answer got lost may have used the token up, except that
// Bitbucket lets it live on for a moment. So a lost answer is asked for again at once, with the
// same token. And where the token that we hold is refused, the one before it gets one retry: it is
// then the newest that Bitbucket knows us to have.
func (w *Workspaces) exchange(ctx context.Context, c store.Connection) (pair bitbucket.Token, previous store.Secret, err error) {
	pair, err = w.connect.Refresh(ctx, string(c.RefreshToken))
	if lost, ok := errors.AsType[*bitbucket.Error](err); ok && lost.Class() == bitbucket.Transient && !lost.Throttled() {
		w.log.WarnContext(ctx, "refresh failed, asking again", "workspace", c.WorkspaceID, "error", err)
		pair, err = w.connect.Refresh(ctx, string(c.RefreshToken))
	}
	if errors.Is(err, bitbucket.ErrGrantDead) && c.PreviousRefreshToken != "" {
		w.log.WarnContext(ctx, "refresh token refused, trying the previous one", "workspace", c.WorkspaceID, "error", err)
		pair, err = w.connect.Refresh(ctx, string(c.PreviousRefreshToken))
		return pair, "", err // its one retry was this
	}
	return pair, c.RefreshToken, err
}

// exchanged turns what went wrong at the token endpoint, short of a dead grant, into what the caller
// is told.
func exchanged(err error) error {
	remote, ok := errors.AsType[*bitbucket.Error](err)
	if ok && remote.Class() == bitbucket.Permanent {
		return refusal.New(CodeConsumer, "Bitbucket does not accept this server's OAuth consumer; whoever runs this server has to look at its settings.").Because(err)
	}
	return asked(err)
}

// keepPair stores a new pair. The pair is worth more than the lease: whether it may be stored is
// decided by the generation alone, and a database that is away for a moment is tried again.
func (w *Workspaces) keepPair(ctx context.Context, c store.Connection, pair bitbucket.Token, previous store.Secret) (store.Connection, error) {
	var err error
	for try := range storeTries {
		if try > 0 {
			time.Sleep(time.Duration(try) * 200 * time.Millisecond)
		}
		err = w.store.InWorkspace(ctx, c.WorkspaceID, func(tx *store.Tx) error {
			return tx.RenewConnection(ctx, c.Generation, previous, store.Tokens{
				Access: store.Secret(pair.Access), Refresh: store.Secret(pair.Refresh), AccessExpiresAt: pair.Expiry,
			})
		})
		if err == nil || errors.Is(err, store.ErrConflict) {
			break
		}
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return store.Connection{}, fmt.Errorf("store new tokens: %w", err)
	}
	// After a conflict, another consent or another holder's pair is there.
	renewed, _, err := w.working(ctx, c.WorkspaceID)
	return renewed, err
}

// grantDied makes a dead grant known: the connection's state, an alarm, and a notice to the person
// whose consent it was. What is gated keeps its last status.
func (w *Workspaces) grantDied(ctx context.Context, c store.Connection, cause error) (store.Connection, error) {
	err := w.store.InWorkspace(ctx, c.WorkspaceID, func(tx *store.Tx) error {
		s, err := readStanding(ctx, tx)
		if err != nil {
			return err
		}
		sentence := "Bitbucket no longer accepts the consent of " + c.AccountName + ": it was removed, or not used for three months. "
		if s.active() {
			sentence += "The app goes on without it. Connect the workspace again, or end the connection."
		} else {
			sentence += "Gated pull requests keep their last status until an administrator connects the workspace again."
		}
		if err := tx.FailConnection(ctx, c.Generation, sentence); err != nil {
			return err
		}
		if _, err := tx.RaiseAlarm(ctx, store.Alarm{Kind: store.AlarmNeedsReconnecting, Subject: c.WorkspaceID, Sentence: sentence}); err != nil {
			return err
		}
		workspace, err := tx.ReadWorkspace(ctx)
		if err != nil {
			return err
		}
		err = tx.AddNotice(ctx, store.Notice{
			PersonID: c.ConnectedBy, WorkspaceID: c.WorkspaceID, Kind: store.AlarmNeedsReconnecting,
			DedupeKey: fmt.Sprintf("needs-reconnecting:%s:%d", c.WorkspaceID, c.Generation),
			Title:     workspace.Name + " needs reconnecting", Sentence: sentence, Path: "/settings/bitbucket",
		})
		if err != nil {
			return err
		}
		return appendLeaf(ctx, tx, workspace, evidence.Connection{Event: "broken"})
	})
	if errors.Is(err, store.ErrConflict) {
		renewed, _, err := w.working(ctx, c.WorkspaceID)
		return renewed, err
	}
	if err != nil {
		return store.Connection{}, err
	}
	w.log.WarnContext(ctx, "connection needs reconnecting", "workspace", c.WorkspaceID, "error", cause)
	return store.Connection{}, needsReconnecting().Because(cause)
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
