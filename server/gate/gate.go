// Package gate is the gate: it decides what a pull request needs, takes decisions, and makes
// Bitbucket show the verdict.
//
// There is one road to a commit status. Whatever happens to a pull request, an event, a decision, a
// change of rules, the passing of time, only asks for an evaluation; [Gate.Evaluate] reads the
// facts again, tallies, and owes Bitbucket a status in one transaction; [Gate.PutStatus] pays what
// is owed. Nothing else writes a status, and no error leads to SUCCESSFUL.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/notify"
	"github.com/signedapproval/bitbucket/server/passkey"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// Gate holds what the use cases need. It has no state of its own: any number of replicas may run.
type Gate struct {
	Store    *store.Store
	Passkeys *passkey.Ceremonies
	Mail     *notify.Mail // nil: notices stay in the inbox
	Log      *slog.Logger

	// Origin is ours, such as https://approvals.example: what every decision must be made on.
	Origin string
	// RPID is the relying party id of every passkey.
	RPID string
	// LogOrigin names the log in statements.
	LogOrigin string

	// Models is the snapshot of the FIDO metadata by which models of authenticators are proved; nil: none is.
	Models   *evidence.Models
	digested atomic.Pointer[digested]
	policies policies

	// CallsPerHour is how many API calls a connection has; the reconciler keeps to a fifth of them.
	CallsPerHour int

	// Client gives Bitbucket's API in the name of a workspace's connection.
	Client func(ctx context.Context, workspace string, class bitbucket.Class) (*bitbucket.Client, error)
	// Permission is a person's own right on a repository, at most five minutes old, or read anew.
	Permission func(ctx context.Context, person store.Person, workspace, repositoryID string, fresh bool) (bitbucket.Permission, error)
	// Readable lists the gated repositories of a workspace that a person may read, by rights that are
	// at most five minutes old.
	Readable func(ctx context.Context, person store.Person, workspace string) ([]string, error)
	// People lists everybody with a right on a repository, at most five minutes old.
	People func(ctx context.Context, workspace, repositoryID string) ([]store.RepositoryPerson, error)
	// Publish returns once a signed checkpoint of the log covers its first size leaves, and that many witnesses have
	// cosigned it. Where too few do, it fails with [witness.ErrUncosigned].
	Publish func(ctx context.Context, size int64, cosignatures int) error
	// Cosigned gives the newest checkpoint that covers size leaves and that many witnesses, at least one, have
	// cosigned, after it was published.
	Cosigned func(ctx context.Context, size int64, cosignatures int) (*witness.Checkpoint, error)
	// Role is what a person is in a workspace, at most five minutes old, or read anew.
	Role func(ctx context.Context, person store.Person, workspace string, fresh bool) (store.Role, error)
	// EnsureHook makes or repairs the webhook of a repository.
	EnsureHook func(ctx context.Context, workspace, repositoryID string) error
}

// reconnectPause is how long a job waits while nothing can be done in its workspace: its connection is
// dead, or its app holds no token or is not confirmed. The end of that rings everything at once, so
// this is only the pace of looking.
const reconnectPause = 5 * time.Minute

// publishPause is how long a job waits whose leaves cannot be published. It is the operator's to put
// right, and no reason to give a status up.
const publishPause = 5 * time.Second

// publish publishes the chain of a pull request as far as it has come, with so many cosignatures. That it is published
// says nothing of who cosigned it: whoever publishes knows.
func (g *Gate) publish(ctx context.Context, end chainEnd, cosignatures int) error {
	if end.published && cosignatures == 0 {
		return nil
	}
	if err := g.Publish(ctx, end.size, cosignatures); err != nil {
		return jobs.Later(err, time.Now().Add(publishPause))
	}
	return nil
}

// chainEnd is how large a log holds all leaves of a pull request, and whether it is published, whoever cosigned it.
type chainEnd struct {
	size      int64
	published bool
}

// waitsForWitnesses says what a rule makes its verdicts wait for.
func waitsForWitnesses(cosignatures int) string {
	if cosignatures == 1 {
		return "waits until 1 witness has cosigned the log"
	}
	return fmt.Sprintf("waits until %d witnesses have cosigned the log", cosignatures)
}

func readChainEnd(ctx context.Context, tx *store.Tx, pullRequestID string) (end chainEnd, err error) {
	end.size, end.published, err = tx.ChainEnd(ctx, pullRequestID)
	return end, err
}

// waits tells whether a refusal ends by itself or by an administrator, and rings what waited when it does.
func waits(code string) bool {
	return code == refusal.NeedsReconnecting || code == refusal.WaitingForToken || code == refusal.AwaitingConfirmation
}

// fate tells the queue what an error means for a job: wait without blame, give up, or try again.
func (g *Gate) fate(err error) error {
	if err == nil {
		return nil
	}
	var remote *bitbucket.Error
	var later interface{ RetryAt() (time.Time, bool) }
	switch {
	case errors.As(err, &later): // said already
		return err
	case waits(refusal.Code(err)):
		return jobs.Later(err, time.Now().Add(reconnectPause))
	case errors.As(err, &remote) && remote.Throttled():
		return jobs.Later(err, remote.RetryAt)
	case errors.As(err, &remote) && remote.Class() == bitbucket.Permanent && !remote.Unauthorized() && !remote.Forbidden():
		return jobs.Permanent(err)
	}
	return err
}
