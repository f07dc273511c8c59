package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/signedapproval/bitbucket/internal/invariant"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
)

// keepClaims has the database keep when each turn of each job began, those that began with being asked for among them. The trigger changes nothing of what the server does.
const keepClaims = `
	create schema chaos;
	create table chaos.claims (job bigint, fence bigint, at timestamptz not null default clock_timestamp(), primary key (job, fence));
	create function chaos.claimed() returns trigger language plpgsql security definer as
		$$ begin insert into chaos.claims (job, fence) values (new.id, new.fence) on conflict do nothing; return null; end $$;
	create trigger chaos_seated after insert on signedapproval_jobs for each row when (new.fence > 0) execute function chaos.claimed();
	create trigger chaos_claimed after update of fence on signedapproval_jobs for each row when (new.fence <> old.fence) execute function chaos.claimed();`

// deeds are what the gate did to Bitbucket, as far as it rests on an approval, and that was not judged yet.
type deeds struct {
	mu      sync.Mutex
	last    int
	pending []bitbucketsim.Effect
}

// ofATurn finds the job and the turn in an agent.
var ofATurn = regexp.MustCompile(`turn/[a-z-]+-(\d+)-(\d+)$`)

// readDeeds adds what the simulated Bitbucket did since the last time.
func (w *world) readDeeds(ctx context.Context) error {
	d := &w.deeds
	d.mu.Lock()
	defer d.mu.Unlock()
	var log struct{ Effects []bitbucketsim.Effect }
	if err := w.sim.call(ctx, http.MethodGet, fmt.Sprintf("/sim/effects?after=%d", d.last), "", nil, &log); err != nil {
		return err
	}
	for _, e := range log.Effects {
		if e.Number != d.last+1 {
			return fmt.Errorf("the simulated Bitbucket has forgotten what it did after %d", d.last)
		}
		d.last = e.Number
		if (e.PullRequest != 0 || e.State == string(bitbucket.StatusSuccessful)) && ofATurn.MatchString(e.Agent) {
			d.pending = append(d.pending, e)
		}
	}
	return nil
}

// judged forgets what was looked at.
func (d *deeds) judged(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = d.pending[n:]
}

// acts are those that are still to be judged, each with the beginning of its turn.
func (w *world) acts(ctx context.Context) (acts []invariant.Act, err error) {
	if err := w.readDeeds(ctx); err != nil {
		return nil, err
	}
	conn, err := w.super(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	w.deeds.mu.Lock()
	pending := w.deeds.pending
	w.deeds.mu.Unlock()
	for _, e := range pending {
		r := w.repositoryOf(e.Repository)
		turn := ofATurn.FindStringSubmatch(e.Agent)
		if r == nil || turn == nil {
			return nil, fmt.Errorf("nobody knows who did %+v", e)
		}
		job, _ := strconv.ParseInt(turn[1], 10, 64)
		fence, _ := strconv.ParseInt(turn[2], 10, 64)
		var began time.Time
		if err := conn.QueryRow(ctx, `select at from chaos.claims where job = $1 and fence = $2`, job, fence).Scan(&began); err != nil {
			return nil, fmt.Errorf("when %s began: %w", e.Agent, err)
		}
		acts = append(acts, invariant.Act{
			Workspace: bare(r.workspace.UUID), Repository: bare(r.uuid), Commit: e.Commit, Key: e.Key, Number: int64(e.PullRequest), Began: began, Done: e.At,
		})
	}
	return acts, nil
}
