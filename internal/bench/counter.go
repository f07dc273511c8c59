package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
)

// counter stands between a server and its database and counts statements.
type counter struct {
	url        string
	statements atomic.Int64
	listener   net.Listener
}

func newCounter(ctx context.Context, database string) (*counter, error) {
	to, err := pgconn.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	network, address := pgconn.NetworkAddress(to.Host, to.Port)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &counter{listener: listener, url: (&url.URL{
		Scheme: "postgres", User: url.User(to.User), Host: listener.Addr().String(), Path: "/" + to.Database, RawQuery: "sslmode=disable",
	}).String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.forward(ctx, client, network, address)
		}
	}()
	return c, nil
}

func (c *counter) close() { _ = c.listener.Close() }

func (c *counter) forward(ctx context.Context, client net.Conn, network, address string) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_ = c.count(io.TeeReader(client, server)) // ends with the connection
}

// count reads the messages of a client: the first has no type. A simple query is a statement; of the extended protocol
// Execute is one.
func (c *counter) count(r io.Reader) error {
	for header := make([]byte, 4); ; header = make([]byte, 5) {
		if _, err := io.ReadFull(r, header); err != nil {
			return err
		}
		length := int64(binary.BigEndian.Uint32(header[len(header)-4:])) - 4
		if len(header) == 5 && (header[0] == 'Q' || header[0] == 'E') {
			c.statements.Add(1)
		}
		if _, err := io.CopyN(io.Discard, r, length); err != nil {
			return err
		}
	}
}
