package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// statements keeps those that a store carries out one after another.
type statements []struct {
	sql  string
	args []any
}

func (s *statements) keep(sql string, args []any) {
	*s = append(*s, struct {
		sql  string
		args []any
	}{sql, args})
}

// TraceQueryStart keeps a statement.
func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.keep(data.SQL, data.Args)
	return ctx
}

// TraceQueryEnd does nothing.
func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart does nothing: the statements of a batch come by themselves.
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery keeps a statement of a batch.
func (s *statements) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	s.keep(data.SQL, data.Args)
}

// TraceBatchEnd does nothing.
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// blocks is how many blocks the statements touch, by PostgreSQL's count, once a connection knows the tables. Their values
// are numbers.
func (s *statements) blocks(ctx context.Context, config *pgx.ConnConfig) (float64, error) {
	config = config.Copy()
	config.Tracer = nil
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	touched := 0
	for n, st := range *s {
		name, values := fmt.Sprintf("looked_at_%d", n), ""
		if _, err := conn.Prepare(ctx, name, st.sql); err != nil {
			return 0, err
		}
		for i, arg := range st.args {
			values += fmt.Sprintf("%s%d", map[bool]string{true: "(", false: ", "}[i == 0], arg)
		}
		if values != "" {
			values += ")"
		}
		var document []byte
		for range 2 {
			if err := conn.QueryRow(ctx, `explain (analyze, buffers, format json) execute `+name+values).Scan(&document); err != nil {
				return 0, err
			}
		}
		var explained []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal(document, &explained); err != nil {
			return 0, err
		}
		for _, e := range explained {
			touched += e.Plan.Hit + e.Plan.Read
		}
	}
	return float64(touched), nil
}
