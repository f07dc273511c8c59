package atlassian

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"golang.org/x/sync/singleflight"
)

const (
	// fresh is for how long fetched keys are believed without a look.
	fresh = time.Hour
	// stale is for how long they are believed where Atlassian's keys cannot be fetched. A key that
	// Atlassian withdrew is good for so long at most.
	stale = 24 * time.Hour
	// between is the least time from one fetch to the next, whoever asks and whatever for: anybody can
	// make up the name of a key.
	between = 30 * time.Second
	// fetchTimeout bounds one fetch. A merge check has 4 s in all.
	fetchTimeout = 3 * time.Second
	// maxKeys is the longest answer, in bytes.
	maxKeys = 256 << 10
	// minBits is the shortest RSA key.
	minBits = 2048
)

// keys are Atlassian's public keys, by their names. A fetch that fails, or brings none, leaves those
// that are there; names that do not exist are not remembered.
type keys struct {
	url    string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	flight singleflight.Group
	ctx    context.Context // of the fetches: they do not end with the request that began them
	close  context.CancelFunc

	mu      sync.Mutex
	known   map[string]*rsa.PublicKey
	fetched time.Time // when known was
	tried   time.Time
	failure error // of the last try
}

func newKeys(config Config) *keys {
	client := *config.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	k := &keys{url: config.JWKSURL, client: &client, log: config.Log, now: config.Now, failure: errors.New("no keys were fetched yet")}
	k.ctx, k.close = context.WithCancel(context.Background())
	return k
}

// find gives a key by its name. It waits for a fetch only where it cannot answer without.
func (k *keys) find(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	key, age, _ := k.look(kid)
	if key != nil && age < fresh {
		return key, nil
	}
	fetch := k.flight.DoChan("", k.fetch)
	if key != nil && age < stale {
		return key, nil
	}
	select {
	case <-fetch:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	key, age, failure := k.look(kid)
	switch {
	case key != nil && age < stale:
		return key, nil
	case failure != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, failure)
	default:
		return nil, refuse(ReasonUnknownKey)
	}
}

// look gives a key, how old the keys are, and how the last fetch failed, nil for well.
func (k *keys) look(kid string) (*rsa.PublicKey, time.Duration, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[kid], k.now().Sub(k.fetched), k.failure
}

// fetch fetches the keys unless that was tried a moment ago. It is called by the flight alone, so
// never twice at once.
func (k *keys) fetch() (any, error) {
	k.mu.Lock()
	wait := !k.tried.IsZero() && k.now().Sub(k.tried) < between
	if !wait {
		k.tried = k.now()
	}
	k.mu.Unlock()
	if wait {
		return nil, nil
	}
	known, err := k.download()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure = err; err != nil {
		k.log.ErrorContext(k.ctx, "the keys of invocation tokens cannot be fetched", "error", err, "age", k.now().Sub(k.fetched).Round(time.Second))
		return nil, nil
	}
	k.known, k.fetched = known, k.now()
	return nil, nil
}

func (k *keys) download() (map[string]*rsa.PublicKey, error) {
	ctx, cancel := context.WithTimeout(k.ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d", response.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxKeys+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxKeys {
		return nil, errors.New("the answer is too long")
	}
	return readKeys(raw)
}

// readKeys reads a set of keys: RSA public keys of enough bits that sign, each under a name of its own.
func readKeys(raw []byte) (map[string]*rsa.PublicKey, error) {
	// A key of a kind that is not known here must not take the others with it.
	set, err := jwk.Parse(raw, jwk.WithIgnoreParseError(true))
	if err != nil {
		return nil, errors.New("the answer is no set of keys")
	}
	found, twice := map[string]*rsa.PublicKey{}, map[string]bool{}
	for n := range set.Len() {
		key, _ := set.Key(n)
		kid, _ := key.KeyID()
		if twice[kid] || !signs(key) || !printable(kid, maxKeyID) {
			continue
		}
		if _, ok := found[kid]; ok {
			delete(found, kid)
			twice[kid] = true
			continue
		}
		var public rsa.PublicKey
		if err := jwk.Export(key, &public); err == nil && public.N.BitLen() >= minBits {
			found[kid] = &public
		}
	}
	if len(found) == 0 {
		return nil, errors.New("there is no usable key in the answer")
	}
	return found, nil
}

// signs tells whether a key is an RSA public key that may sign by RS256.
func signs(key jwk.Key) bool {
	_, isPublic := key.(jwk.RSAPublicKey)
	usage, hasUsage := key.KeyUsage()
	algorithm, hasAlgorithm := key.Algorithm()
	return isPublic && (!hasUsage || usage == "sig") && (!hasAlgorithm || algorithm.String() == "RS256")
}
