package jobs

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// Bell tells everybody who watches a topic that there is something new to read, in all replicas. It
// carries no facts and may ring for nothing; while Redis is away it reaches this process only, and
// when Redis is back it wakes every watcher once.
type Bell struct {
	redis   redis.UniversalClient
	channel string
	self    string
	log     *slog.Logger

	// guard guards topics and waiting. It is never held over a call.
	guard   sync.Mutex
	topics  map[string]map[chan struct{}]struct{}
	waiting map[string]struct{} // topics to be published
	ready   chan struct{}
}

// healthCheck is how long a silent connection is believed to be alive. A broken one is noticed at once.
const healthCheck = 30 * time.Second

// NewBell makes a bell; Run connects it to the other replicas. prefix must be the same in all of
// them.
func NewBell(client redis.UniversalClient, prefix string, log *slog.Logger) *Bell {
	return &Bell{
		redis: client, channel: prefix + ":bell", self: uuid.NewString(), log: log,
		topics: map[string]map[chan struct{}]struct{}{}, waiting: map[string]struct{}{}, ready: make(chan struct{}, 1),
	}
}

// Publish wakes the watchers of topics, those of this process at once and the others soon. It never
// waits. A topic must not contain a line break.
func (b *Bell) Publish(_ context.Context, topics []string) {
	b.wake(topics)
	b.guard.Lock()
	for _, topic := range topics {
		b.waiting[topic] = struct{}{}
	}
	b.guard.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// Subscribe watches a topic. The channel holds one wake-up at most, however often the topic was
// published; cancel ends it, and must be called. The channel is never closed.
func (b *Bell) Subscribe(topic string) (wake <-chan struct{}, cancel func()) {
	watcher := make(chan struct{}, 1)
	b.guard.Lock()
	defer b.guard.Unlock()
	if b.topics[topic] == nil {
		b.topics[topic] = map[chan struct{}]struct{}{}
	}
	b.topics[topic][watcher] = struct{}{}
	return watcher, func() {
		b.guard.Lock()
		defer b.guard.Unlock()
		delete(b.topics[topic], watcher)
		if len(b.topics[topic]) == 0 {
			delete(b.topics, topic)
		}
	}
}

// Run connects the bell to the other replicas until ctx ends.
func (b *Bell) Run(ctx context.Context) error {
	subscription := b.redis.Subscribe(ctx, b.channel)
	defer subscription.Close()
	var sender sync.WaitGroup
	sender.Go(func() { b.send(ctx) })
	defer sender.Wait()
	// A subscription message comes with each connection: what rang in between is not known. go-redis
	// pings a connection on which nothing came, and so notices one that is dead.
	messages := subscription.ChannelWithSubscriptions(redis.WithChannelHealthCheckInterval(healthCheck))
	for {
		select {
		case <-ctx.Done():
			return nil
		case message, open := <-messages:
			if !open {
				return nil
			}
			switch m := message.(type) {
			case *redis.Subscription:
				b.wakeAll()
			case *redis.Message:
				sender, topics, _ := strings.Cut(m.Payload, "\n")
				if sender != b.self { // its own watchers were woken before
					b.wake(strings.Split(topics, "\n"))
				}
			}
		}
	}
}

// send publishes what waits, one message for all topics that came together.
func (b *Bell) send(ctx context.Context) {
	for {
		select {
		case <-b.ready:
		case <-ctx.Done():
			return
		}
		payload := []string{b.self}
		b.guard.Lock()
		for topic := range b.waiting {
			payload = append(payload, topic)
		}
		clear(b.waiting)
		b.guard.Unlock()
		call, cancel := context.WithTimeout(ctx, redisTimeout)
		err := b.redis.Publish(call, b.channel, strings.Join(payload, "\n")).Err()
		cancel()
		if err != nil && ctx.Err() == nil {
			// The other replicas' watchers are woken when their connections are back.
			b.log.Warn("the bell does not reach the other replicas", slog.Any("error", err))
		}
	}
}

func (b *Bell) wake(topics []string) {
	b.guard.Lock()
	defer b.guard.Unlock()
	for _, topic := range topics {
		for watcher := range b.topics[topic] {
			poke(watcher)
		}
	}
}

func (b *Bell) wakeAll() {
	b.guard.Lock()
	defer b.guard.Unlock()
	for _, watchers := range b.topics {
		for watcher := range watchers {
			poke(watcher)
		}
	}
}

func poke(watcher chan struct{}) {
	select {
	case watcher <- struct{}{}:
	default:
	}
}
