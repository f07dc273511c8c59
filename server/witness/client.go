package witness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
