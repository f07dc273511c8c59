package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signedapproval/bitbucket/internal/stage"
	"github.com/signedapproval/bitbucket/server/store"
)

// inboxQuery asks for an inbox as the dashboard does, with as many items as are wanted.
const inboxQuery = `query($n: Int) { viewer { waiting(first: $n) { edges { node { id destinationBranch expiresAt headCommit requestedAt signPath
	pullRequest { id number title sourceBranch author { accountId name } repository { id fullName } } } } pageInfo { endCursor hasNextPage } } } }`

// queries compares the panel and an inbox of fifty with the statements alone that they cannot do without.
func queries(ctx context.Context, w *world) (figures []Figure, err error) {
	list, err := w.known(ctx, 60)
	if err != nil {
		return nil, err
	}
	vault, err := store.OpenVault(store.NewKeyset()) // what is read holds no secret
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, w.ours.app, vault)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tokens := make([]string, len(w.approvers))
	for i, p := range w.approvers {
		if tokens[i], err = w.token(ctx, p); err != nil {
			return nil, err
		}
	}
	who, err := w.sql(ctx, w.ours, `select account_id from signedapproval_people where account_id = any($1) order by account_id`, w.accounts)
	if err != nil || len(who) == 0 {
		return nil, errors.Join(err, errors.New("the approvers are not known"))
	}
	rounds := w.mode.of(600, 240)
	n := len(w.approvers)
	for _, q := range []struct {
		name string
		ours func(i int) error
		bare func(i int) error
	}{
		{"panel query", func(i int) error {
			panel, err := w.approvers[i%n].Panel(ctx, list[i%len(list)].Place)
			if err == nil && panel == nil {
				err = errors.New("the panel shows nothing")
			}
			return err
		}, func(i int) error { return barePanel(ctx, db, list[i%len(list)].Place) }},
		{"inbox of 50", func(i int) error { return w.inbox(ctx, tokens[i%n], 50) }, func(i int) error {
			return bareInbox(ctx, db, w.workspace.UUID, w.repo, who[i%len(who)], 50)
		}},
	} {
		var took, bare []time.Duration
		for i := range rounds {
			began := time.Now()
			if err := q.ours(i); err != nil {
				return figures, fmt.Errorf("%s: %w", q.name, err)
			}
			middle := time.Now()
			if err := q.bare(i); err != nil {
				return figures, fmt.Errorf("bare %s: %w", q.name, err)
			}
			took, bare = append(took, middle.Sub(began)), append(bare, time.Since(middle))
		}
		for _, p := range []float64{0.5, 0.99} {
			f := shown(fmt.Sprintf("%s, p%.0f", q.name, 100*p), milliseconds(percentile(took, p)), "ms", true).beside(milliseconds(percentile(bare, p)))
			if p == 0.99 {
				f = f.times(3).noting("the limit is the statements of its data alone, on one connection, without session, permission, HTTP and GraphQL")
			}
			figures = append(figures, f)
		}
	}
	counted, err := w.statements(ctx, tokens[0], list)
	return append(figures, counted...), err
}

// token makes an API token of a person as the dashboard does.
func (w *world) token(ctx context.Context, p *stage.Person) (string, error) {
	var made struct {
		CreateAPIToken struct {
			Secret     string
			UserErrors []stage.Refusal
		}
	}
	err := p.Ask(ctx, "CreateApiToken", map[string]any{"input": map[string]any{
		"workspaceId": w.workspace.ID, "name": "bench", "scopes": []string{"READ"}, "expiresInDays": 1,
	}}, &made)
	if err == nil && len(made.CreateAPIToken.UserErrors) > 0 {
		err = &made.CreateAPIToken.UserErrors[0]
	}
	return made.CreateAPIToken.Secret, err
}

// inbox asks for an inbox by an API token, and fails unless it has as many items.
func (w *world) inbox(ctx context.Context, token string, n int) error {
	body, err := json.Marshal(map[string]any{"query": inboxQuery, "variables": map[string]any{"n": n}})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.origin+"/graphql", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := w.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Data struct {
			Viewer struct{ Waiting struct{ Edges []any } }
		}
		Errors []struct{ Message string }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if len(answer.Errors) > 0 {
		return errors.New(answer.Errors[0].Message)
	}
	if got := len(answer.Data.Viewer.Waiting.Edges); got != n {
		return fmt.Errorf("the inbox has %d items, not %d", got, n)
	}
	return nil
}

// barePanel reads what a panel shows.
func barePanel(ctx context.Context, db *store.Store, at stage.Place) error {
	return db.InWorkspace(ctx, at.Workspace, func(tx *store.Tx) error {
		pr, err := tx.FindPullRequest(ctx, at.Repository, at.Number)
		if err != nil {
			return err
		}
		if _, err := tx.ReadWorkspace(ctx); err != nil {
			return err
		}
		if _, err := tx.RepositoryConfig(ctx, pr.RepositoryID); err != nil {
			return err
		}
		request, err := tx.LastRequest(ctx, pr.ID)
		if err != nil {
			return err
		}
		if _, err := tx.DecisionsOn(ctx, pr.ID, request.HeadCommit); err != nil {
			return err
		}
		if _, err := tx.Status(ctx, pr.ID, pr.HeadCommit); err != nil {
			return err
		}
		if _, err := tx.Merge(ctx, pr.ID, pr.HeadCommit); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	})
}

// bareInbox reads what an inbox shows.
func bareInbox(ctx context.Context, db *store.Store, workspace, repository, account string, n int) error {
	return db.InWorkspace(ctx, workspace, func(tx *store.Tx) error {
		requests, _, err := tx.Waiting(ctx, []string{repository}, account, store.Page{First: n})
		if err != nil {
			return err
		}
		if len(requests) != n {
			return fmt.Errorf("%d requests wait, not %d", len(requests), n)
		}
		ids, heads := make([]string, len(requests)), make([]string, len(requests))
		for i, r := range requests {
			ids[i], heads[i] = r.PullRequestID, r.HeadCommit
		}
		if _, err := tx.PullRequestsByID(ctx, ids); err != nil {
			return err
		}
		if _, err := tx.ReadWorkspace(ctx); err != nil {
			return err
		}
		if _, err := tx.RepositoryConfig(ctx, repository); err != nil {
			return err
		}
		if _, err := tx.DecisionsOfPullRequests(ctx, ids); err != nil {
			return err
		}
		if _, err := tx.StatusesOnHeads(ctx, ids, heads); err != nil {
			return err
		}
		_, err = tx.MergesOfHeads(ctx, ids, heads)
		return err
	})
}

// statements counts what the queries ask of PostgreSQL, on the wire.
func (w *world) statements(ctx context.Context, token string, list []pull) (figures []Figure, err error) {
	counter, err := newCounter(ctx, w.ours.app)
	if err != nil {
		return nil, err
	}
	defer counter.close()
	if err := w.restart(ctx, "DATABASE_URL="+counter.url); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.restart(ctx)) }()
	if err := w.rest(ctx); err != nil {
		return nil, err
	}
	count := func(do func() error) (float64, error) {
		best := int64(1 << 62)
		for range 6 { // the sweep asks now and then too: the least is the query's own
			before := counter.statements.Load()
			if err := do(); err != nil {
				return 0, err
			}
			best = min(best, counter.statements.Load()-before)
		}
		return float64(best), nil
	}
	for _, q := range []struct {
		name      string
		few, many func() error
	}{
		{"SQL statements of an inbox of 50", func() error { return w.inbox(ctx, token, 2) }, func() error { return w.inbox(ctx, token, 50) }},
		{"SQL statements of a panel query", nil, func() error { _, err := w.approvers[0].Panel(ctx, list[0].Place); return err }},
	} {
		many, err := count(q.many)
		if err != nil {
			return figures, err
		}
		f := shown(q.name, many, "statements", true)
		if q.few != nil {
			few, err := count(q.few)
			if err != nil {
				return figures, err
			}
			f = f.beside(few).times(1).noting("the limit is the same query for two items")
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// subscribers opens live subscriptions, measures what each costs, and lets every one of them see one change.
func subscribers(ctx context.Context, w *world) (figures []Figure, err error) {
	const perCaller = 10 // as many as one may hold open
	want := 2000 * w.mode.of(runtime.NumCPU(), 1)
	list, err := w.known(ctx, 1)
	if err != nil {
		return nil, err
	}
	cookies, err := w.viewers(ctx, want/perCaller)
	if err != nil {
		return nil, err
	}
	ids, err := w.sql(ctx, w.ours, `select id::text from signedapproval_pull_requests where number = $1`, list[0].Number)
	if err != nil || len(ids) != 1 {
		return nil, errors.Join(err, errors.New("the pull request is not known"))
	}
	node, err := w.nodeID(ctx, list[0])
	if err != nil {
		return nil, err
	}
	if err := w.restart(ctx); err != nil {
		return nil, err
	}
	empty, err := memory(w.server.PID())
	if err != nil {
		return nil, err
	}
	streaming, hangUp := context.WithCancel(ctx)
	defer hangUp()
	var open, events atomic.Int64
	failed := make(chan error, want)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: -1}}
	_, _, err = pour(ctx, 32, want, 0, func(_ context.Context, i int) error {
		body, err := w.listen(streaming, client, cookies[i/perCaller], node)
		if err != nil {
			return err
		}
		open.Add(1)
		go func() {
			failed <- body.each(func() { events.Add(1) })
		}()
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := until(ctx, time.Minute, "each subscriber has its first event", func() (bool, error) { return events.Load() >= int64(want), nil }); err != nil {
		return nil, err
	}
	full, err := memory(w.server.PID())
	if err != nil {
		return nil, err
	}
	before, err := cpu(w.server.PID(), false)
	if err != nil {
		return nil, err
	}
	length := time.Duration(w.mode.of(20, 10)) * time.Second
	if err := pause(ctx, length); err != nil {
		return nil, err
	}
	after, err := cpu(w.server.PID(), false)
	if err != nil {
		return nil, err
	}
	seen := events.Load()
	began := time.Now()
	if err := w.touch(ctx, ids[0]); err != nil {
		return nil, err
	}
	if err := until(ctx, time.Minute, "each subscriber sees the change", func() (bool, error) { return events.Load() >= seen+int64(want), nil }); err != nil {
		return nil, err
	}
	told := time.Since(began)
	ended := int64(len(failed))
	hangUp()
	return []Figure{
		shown("live subscribers held", float64(open.Load()-ended), "subscribers", false).beside(float64(want)).share(1).noting("2,000 for each of %d cores", want/2000),
		shown("memory of a subscriber", (full-empty)*1000/float64(want), "KB", true).atMost(100).
			noting("connection, buffers and goroutines; nothing is queued: a ring that finds one waiting is dropped, and a client that takes no event for 10 s is let go (graph's TestSlowClientIsLetGo)"),
		shown("CPU of these subscribers while nothing changes", 100*(after-before).Seconds()/length.Seconds(), "% of a core", true),
		shown("one change seen by every subscriber after", milliseconds(told), "ms", true),
	}, nil
}

// nodeID is the API's id of a pull request.
func (w *world) nodeID(ctx context.Context, p pull) (string, error) {
	var found struct{ PullRequest struct{ ID string } }
	err := w.alice.Ask(ctx, "Panel", map[string]any{"workspace": p.Workspace, "repository": p.Repository, "number": p.Number}, &found)
	return found.PullRequest.ID, err
}

// viewers makes people with sessions who may read the repository. Signing hundreds in would measure the simulated
// Bitbucket's consent page and the pace of sign-ins, so their rows are written as signing in writes them.
func (w *world) viewers(ctx context.Context, n int) ([]string, error) {
	cookies := make([]string, n)
	rows := &pgx.Batch{}
	for i := range n {
		cookies[i] = secret()
		hash := sha256.Sum256([]byte(cookies[i]))
		person, account := uuid.NewString(), "bench:"+uuid.NewString()
		rows.Queue(`insert into signedapproval_people (id, account_id, account_uuid, name, salt) values ($1, $2, $3, 'Viewer', sha256($4))`, person, account, uuid.NewString(), []byte(person))
		rows.Queue(`insert into signedapproval_sessions (token_hash, person_id, expires_at) values ($1, $2, now() + interval '1 hour')`, hash[:], person)
		rows.Queue(`insert into signedapproval_repository_people (workspace_id, repository_id, account_id, account_uuid, name, permission, fetched_at)
			values ($1, $2, $3, $4, 'Viewer', 'read', now() + interval '1 hour')`, w.workspace.UUID, w.repo, account, uuid.NewString())
	}
	conn, err := pgx.Connect(ctx, w.ours.super)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	return cookies, conn.SendBatch(ctx, rows).Close()
}

// secret is a cookie's value, as the server makes them.
func secret() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails, says its documentation
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// touch changes a pull request as a screen sees it, and rings.
func (w *world) touch(ctx context.Context, id string) error {
	if _, err := w.sql(ctx, w.ours, `update signedapproval_pull_requests set version = version + 1 where id = $1 returning id::text`, id); err != nil {
		return err
	}
	return w.redis.Publish(ctx, "signedapproval:bell", uuid.NewString()+"\npr:"+id).Err()
}

// events is an open stream.
type events struct{ response *http.Response }

// each calls got for every event until the stream ends.
func (e events) each(got func()) error {
	defer e.response.Body.Close()
	reader := bufio.NewReaderSize(e.response.Body, 512)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if bytes.HasPrefix(line, []byte("event: next")) {
			got()
		}
	}
}

// listen opens one subscription of a browser.
func (w *world) listen(ctx context.Context, client *http.Client, cookie, node string) (events, error) {
	digest, err := stage.Operation("RequestChanged")
	if err != nil {
		return events{}, err
	}
	body, err := json.Marshal(map[string]any{"documentId": digest, "operationName": "RequestChanged", "variables": map[string]any{"id": node}})
	if err != nil {
		return events{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.origin+"/graphql", bytes.NewReader(body))
	if err != nil {
		return events{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Origin", w.origin)
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	request.AddCookie(&http.Cookie{Name: "signedapproval", Value: cookie})
	response, err := client.Do(request)
	if err != nil {
		return events{}, err
	}
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		var text [300]byte
		n, _ := response.Body.Read(text[:])
		return events{}, errors.Join(fmt.Errorf("a subscription was answered with %s: %s", response.Status, text[:n]), response.Body.Close())
	}
	return events{response}, nil
}
