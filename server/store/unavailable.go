package store

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// readOnly is the code of PostgreSQL's error where something is written in a transaction that may only read: the server
// behind this connection is a standby, or has become one.
const readOnly = "25006"

// Unavailable tells whether err says that the database can do nothing now, whatever it is asked: it is away, starting or
// stopping, it has no connection, disk or memory left, or it only reads. What was asked for may be asked for again. Of a
// connection that broke it is unknown whether it was carried out.
func Unavailable(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch class := refused.Code[:min(2, len(refused.Code))]; class {
		case "08", // the connection
			"53", // resources: disk full, out of memory, too many connections
			"58": // the system: a disk that cannot be read or written
			return true
		case "57":
			return strings.HasPrefix(refused.Code, "57P") // stopping, crashed, starting; not a statement that was cancelled
		}
		return refused.Code == readOnly
	}
	var connecting *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connecting) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.ErrUnexpectedEOF) // it died: nothing said that the connection ends
}

// lostConnection tells whether a statement failed because its connection broke or its server is stopping or has become
// a standby, so that another connection may do better. Whether it was carried out is unknown.
func lostConnection(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return strings.HasPrefix(refused.Code, "57P") || strings.HasPrefix(refused.Code, "08") || refused.Code == readOnly
	}
	return err != nil
}

// renew drops the pool's connections where err says that they lead to a server that only reads: after a failover the
// address leads to another one, but a connection that stands would stay with the old one for ever.
func (s *Store) renew(err error) {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == readOnly {
		s.pool.Reset()
	}
}
