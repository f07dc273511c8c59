package app

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestThePaceOfAnAddress(t *testing.T) {
	t.Parallel()
	p, err := newPace()
	if err != nil {
		t.Fatal(err)
	}
	handler := p.limit(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	call := func(address string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/auth/sign-in", nil)
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		handler(w, r)
		return w.Code
	}
	refused := 0
	for range paceBurst + 20 {
		if call("192.0.2.1:1") == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 5 { // the machine may be slow, and the pace goes on
		t.Errorf("%d of %d were refused", refused, paceBurst+20)
	}
	if code := call("192.0.2.2:1"); code != http.StatusNoContent {
		t.Errorf("another address: %d", code)
	}
}

func TestTheCallerBehindProxies(t *testing.T) {
	t.Parallel()
	s := &Server{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	for name, test := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"through one proxy":              {"10.0.0.1:1", []string{"192.0.2.7"}, "192.0.2.7:0"},
		"through two proxies":            {"10.0.0.1:1", []string{"192.0.2.7, 10.0.0.2"}, "192.0.2.7:0"},
		"a caller who invents hops":      {"10.0.0.1:1", []string{"203.0.113.9, 192.0.2.7"}, "192.0.2.7:0"},
		"in several headers":             {"10.0.0.1:1", []string{"203.0.113.9", "192.0.2.7"}, "192.0.2.7:0"},
		"IPv6":                           {"[fd00::1]:1", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		"IPv4 in IPv6":                   {"[::ffff:10.0.0.1]:1", []string{"192.0.2.7"}, "192.0.2.7:0"},
		"a peer that is no proxy":        {"192.0.2.1:1", []string{"203.0.113.9"}, "192.0.2.1:1"},
		"a proxy that says nothing":      {"10.0.0.1:1", nil, "10.0.0.1:1"},
		"a proxy that says nonsense":     {"10.0.0.1:1", []string{"unknown"}, "10.0.0.1:1"},
		"a chain that is proxies only":   {"10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.1:1"},
		"nonsense before a good address": {"10.0.0.1:1", []string{"nonsense, 192.0.2.7"}, "192.0.2.7:0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.RemoteAddr = test.peer
			for _, header := range test.forwarded {
				r.Header.Add("X-Forwarded-For", header)
			}
			var got string
			s.behindProxies(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr })).ServeHTTP(httptest.NewRecorder(), r)
			if got != test.want {
				t.Errorf("the caller is %s, want %s", got, test.want)
			}
		})
	}
}
