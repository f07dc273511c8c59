package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/jobs"
	"github.com/signedapproval/bitbucket/server/store"
)

// The protocol of an evaluation.
//
//  1. look: read configuration, rules and connection, then at the same time the pull request from Bitbucket, its
//     full head commit, and the people that the matching rule needs. No transaction is open meanwhile.
//  2. settle (settle.go), one transaction that holds the pull request's row: the rules must still be those of
//     step 1, else go round again; close the request that no longer fits; open the one that is
//     wanted; tally over the decisions as they are now; write verdict, leaves and the owed status;
//     ask for the jobs that follow; finish this job.
//
// Only one evaluation of a pull request runs at a time: the job's row is the lease, and its fence
// is checked by the transaction of step 2, so a worker that slept through its lease changes
// nothing. Whatever happens while an evaluation runs moves the job's seq, and it runs again.
//
// The facts of step 1 can be overtaken before step 2 commits. Then a status may be written for a
// commit that is no longer the head. It is true of that commit, and the event that tells of the
// new head asks for the next evaluation; if that event is lost, the reconciler does.

// seen is what step 1 learned.
type seen struct {
	began   time.Time // by our own clock, before anybody was asked
	gated   bool      // the repository is configured
	version store.PolicyVersion
	remote  *bitbucket.PullRequest // nil: Bitbucket does not have it, or it was not asked
	head    string                 // full hash; "" where it was not needed
	landed  string                 // full hash of the merge commit, of a merged pull request; "" where Bitbucket does not say it
	rule    *approval.Rule         // the rule that matches the destination; nil if none
	writers []approval.Person      // only where the rule needs them
	people  []approval.Person      // names for the sentences
}

// Evaluate is the job that looks at one pull request again.
func (g *Gate) Evaluate(ctx context.Context, job store.Job) error {
	var at store.Place
	if err := json.Unmarshal(job.Payload, &at); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	seen, err := g.look(ctx, at, job.Attempt)
	if err != nil {
		return g.fate(err)
	}
	return g.settle(ctx, job.Claim, at, seen)
}

// look is step 1, after so many failures.
func (g *Gate) look(ctx context.Context, at store.Place, attempt int) (seen, error) {
	s := seen{began: time.Now()}
	connected := beside("the connection was read", func() (*bitbucket.Client, error) {
		return g.Client(ctx, at.Workspace, bitbucket.Foreground)
	})
	gated, err := g.Store.Gated(ctx, at.Workspace, at.Repository, at.Number)
	client, unconnected := connected()
	if err != nil || gated.Policy == nil {
		return s, err
	}
	s.gated, s.version = true, *gated.Policy
	var known store.PullRequest
	if gated.PullRequest != nil {
		known = *gated.PullRequest
	}
	policy, err := g.policies.parse(s.version.Document)
	if err != nil {
		return s, fmt.Errorf("stored policy %s: %w", s.version.ID, err)
	}
	if unconnected != nil {
		return s, unconnected
	}
	read := func() ([]store.RepositoryPerson, error) { return g.People(ctx, at.Workspace, at.Repository) }
	_, _, asked := policy.Match(known.DestinationBranch)
	if known.ID == "" || asked && known.State == string(bitbucket.Open) && !known.Draft {
		read = beside("the people were read", read) // they will be needed, unless that has changed
		defer func() { _, _ = read() }()
	}
	remote, head, err := readBoth(ctx, client, at, known)
	if notFound(err) {
		return s, g.surelyGone(ctx, client, at)
	}
	if err != nil {
		return s, err
	}
	s.remote = &remote
	if rule, _, ok := policy.Match(remote.Destination.Branch); ok {
		s.rule = &rule
	}
	switch remote.State {
	case bitbucket.Open:
		if s.head, err = head(remote.Source.CommitPrefix); err != nil {
			return s, err
		}
	case bitbucket.Merged:
		if known.ID == "" || known.State != "OPEN" && known.State != "GONE" {
			return s, nil // seen before, or never gated: nothing will be recorded
		}
		// What was read beside it may be of before the last push.
		if s.head, err = client.PullRequestHead(ctx, at.Workspace, at.Repository, at.Number); err != nil {
			return s, err
		}
		if remote.MergeCommit != nil {
			commit, err := landing(ctx, client, at.Workspace, at.Repository, remote, attempt)
			if err != nil {
				return s, err
			}
			s.landed = commit.Hash
		}
	case bitbucket.Declined, bitbucket.Superseded: // nothing more to read
	}
	if s.rule != nil && remote.State == bitbucket.Open && !remote.Draft {
		people, err := read()
		switch needed := s.rule.Needs().Writers; {
		case err != nil && needed:
			return s, err
		case err != nil: // only names are missing
			g.Log.WarnContext(ctx, "names could not be read", "repository", at.Repository, "error", err)
		case needed:
			s.writers = writersOf(people)
		}
		for _, p := range people {
			s.people = append(s.people, approval.Person{AccountID: p.AccountID, Name: p.Name})
		}
	}
	return s, nil
}

// readBoth reads a pull request and, at the same time, its head: the two are asked for in one wait, since a call to
// Bitbucket takes longer than all that we do. head waits for the second; a head that does not begin with prefix, since
// somebody pushed between the two readings, is thrown away and read once more, and is an error where it does not fit
// then either. Of a pull request that was closed when it was last seen the head is read only if it is asked for.
func readBoth(ctx context.Context, client *bitbucket.Client, at store.Place, known store.PullRequest) (
	remote bitbucket.PullRequest, head func(prefix string) (string, error), err error,
) {
	read := func() (string, error) { return client.PullRequestHead(ctx, at.Workspace, at.Repository, at.Number) }
	first := read
	if known.ID == "" || known.State == "OPEN" || known.State == "GONE" {
		first = beside("the head was read", read)
		defer func() { _, _ = first() }()
	}
	remote, err = client.PullRequest(ctx, at.Workspace, at.Repository, at.Number)
	return remote, func(prefix string) (string, error) {
		hash, err := first()
		if err == nil && !strings.HasPrefix(hash, prefix) {
			hash, err = read()
		}
		if err == nil && !strings.HasPrefix(hash, prefix) {
			err = errors.New("the head moved while it was read")
		}
		return hash, err
	}, err
}

// notOurs is how long an evaluation waits while the connected account cannot see the repository.
const notOurs = 15 * time.Minute

// surelyGone tells a pull request that Bitbucket does not have from a repository that the connected
// account cannot see, for the moment or for good: then nothing is known of the pull request, and
// what people signed must not be thrown away. The walk over the repository alarms the administrator.
func (g *Gate) surelyGone(ctx context.Context, client *bitbucket.Client, at store.Place) error {
	_, err := client.Repository(ctx, at.Workspace, at.Repository)
	if notFound(err) {
		return jobs.Later(err, time.Now().Add(notOurs))
	}
	return err
}

// notFound tells whether Bitbucket answered that there is no such thing, or not for this account.
func notFound(err error) bool {
	var failure *bitbucket.Error
	return errors.As(err, &failure) && failure.NotFound()
}

// writersOf picks those with write permission.
func writersOf(people []store.RepositoryPerson) []approval.Person {
	writers := []approval.Person{}
	for _, p := range people {
		if bitbucket.Permission(p.Permission).Allows(bitbucket.PermissionWrite) {
			writers = append(writers, approval.Person{AccountID: p.AccountID, Name: p.Name})
		}
	}
	return writers
}
