package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/witness"
)

// Why a server does not start beside its database. Stable, for those who watch it.
const (
	codeSchemaOld = "SCHEMA_TOO_OLD"
	codeSchemaNew = "SCHEMA_TOO_NEW"
	// And why a schema is not brought up to date.
	codeServersOld = "SERVERS_TOO_OLD"
)

// checkSchema makes sure, before anything is served, that this program works on the database's schema.
func (s *Server) checkSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.store.CheckSchema(ctx)
	switch {
	case errors.Is(err, store.ErrSchemaTooOld):
		return refusal.New(codeSchemaOld, "the server does not start: run `signedapproval migrate` of this version first").Because(err)
	case errors.Is(err, store.ErrSchemaTooNew):
		return refusal.New(codeSchemaNew, "the server does not start: a newer version has replaced this one for good; start that").Because(err)
	}
	return err
}

// live answers as long as the process serves.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("ok\n"))
}

// ready answers whether deliveries can be taken in: that needs Postgres, with a schema that is new
// enough for this program, which keeps what it commits, and a log that is what was published, or nothing may be decided by it.
// Redis is the bell, its loss costs latency, and so it is named but does not make the server unready.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		s.log.WarnContext(ctx, "not ready", "error", err)
		http.Error(w, "postgres: away", http.StatusServiceUnavailable)
		return
	}
	if err := s.store.CheckSchema(ctx); err != nil {
		s.log.WarnContext(ctx, "not ready", "error", err)
		problem := "postgres: its schema cannot be read"
		switch {
		case errors.Is(err, store.ErrSchemaTooOld):
			problem = "postgres: its schema is too old for this server: run signedapproval migrate"
		case errors.Is(err, store.ErrSchemaTooNew):
			problem = "postgres: its schema is too new for this server: replace it by a newer one"
		}
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	if err := s.store.CheckDurable(ctx); err != nil { // it was set so, or another one was put in its place, since the start
		s.log.WarnContext(ctx, "not ready", "error", err)
		problem := "postgres: its settings cannot be read"
		if refused := refusal.Of(err); refused != nil {
			problem = "postgres: " + refused.Message
		}
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	if err := s.publisher.Check(ctx); err != nil {
		s.log.WarnContext(ctx, "not ready", "error", err)
		problem := "the log: it cannot be compared with what was published: its sink is away or cannot be read"
		if errors.Is(err, witness.ErrBehind) || errors.Is(err, witness.ErrFork) {
			problem = "the log: it is not what was published; nothing is published until a person has put that right"
		} else if errors.Is(err, witness.ErrSinkLacks) {
			problem = "the log: its sink lacks what was published; nothing is published until a person has looked and said signedapproval log adopt-sink"
		}
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	bell := "here"
	if s.queue.Stats().Down {
		bell = "away; work goes on, later"
	}
	_, _ = w.Write([]byte("postgres: here\nredis: " + bell + "\n"))
}
