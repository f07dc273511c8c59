package witness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client makes a client for what is called on behalf of the log. It follows no redirection: a token or a checkpoint goes
// where the operator said and nowhere else.
func client(patience time.Duration) *http.Client {
	return &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// away says that a call got no answer. What net/http says quotes the address, which may tell more than a log should.
func away(err error) error {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			return fmt.Errorf("it did not answer: %w", cause)
		}
	}
	return errors.New("it cannot be reached")
}

// safe tells whether an address may be called: by https, or on this machine, and without a password in it.
func safe(at *url.URL) bool {
	host := at.Hostname()
	ip := net.ParseIP(host)
	here := host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
	return at.Host != "" && at.User == nil && (at.Scheme == "https" || at.Scheme == "http" && here)
}
