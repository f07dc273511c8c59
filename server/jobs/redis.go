package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// poolSize has room for the reader and the subscription, which keep a connection each, and for the
// calls of all jobs that run.
const poolSize = 64

// noNotifications: only Redis' own cloud announces its maintenance, and finding out that another does not is a write to
// options that the client's copies share without a lock (go-redis 9.23.0).
var noNotifications = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

// Connect makes a client as this package needs it. url is redis://, rediss:// or unix:// for one
// server; redis+cluster:// and redis+sentinel:// (rediss+… with TLS) in the form of go-redis'
// ParseClusterURL and ParseFailoverURL. It does not connect yet, and its error does not quote the
// password.
func Connect(url string) (redis.UniversalClient, error) {
	setLogger()
	scheme, rest, _ := strings.Cut(url, "://")
	base, kind, _ := strings.Cut(scheme, "+")
	url = base + "://" + rest
	bad := errors.New("jobs: the Redis URL cannot be parsed")
	switch kind {
	case "cluster":
		o, err := redis.ParseClusterURL(url)
		if err != nil {
			return nil, bad
		}
		o.ContextTimeoutEnabled, o.PoolSize, o.MaintNotificationsConfig = true, max(o.PoolSize, poolSize), noNotifications
		return redis.NewClusterClient(o), nil
	case "sentinel":
		o, err := redis.ParseFailoverURL(url)
		if err != nil {
			return nil, bad
		}
		o.ContextTimeoutEnabled, o.PoolSize = true, max(o.PoolSize, poolSize)
		return redis.NewFailoverClient(o), nil
	case "":
		o, err := redis.ParseURL(url)
		if err != nil {
			return nil, bad
		}
		o.ContextTimeoutEnabled, o.PoolSize, o.MaintNotificationsConfig = true, max(o.PoolSize, poolSize), noNotifications
		return redis.NewClient(o), nil
	}
	return nil, bad
}

// clientLog takes what the client says about its own connections. Whoever meets the error says it
// once; the client says it for each connection and each try.
type clientLog struct{}

func (clientLog) Printf(ctx context.Context, format string, values ...any) {
	slog.DebugContext(ctx, "Redis client", slog.String("message", fmt.Sprintf(format, values...)))
}

// setLogger is for the whole process, since the client knows no other way.
var setLogger = sync.OnceFunc(func() { redis.SetLogger(clientLog{}) })
