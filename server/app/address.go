package app

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// behindProxies gives each request the address of its caller where it came through proxies that
// this server trusts: the last address in X-Forwarded-For that is not one of theirs. Whatever else
// that header says was written by the caller.
func (s *Server) behindProxies(next http.Handler) http.Handler {
	if len(s.proxies) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if caller, ok := s.caller(r); ok {
			r = r.Clone(r.Context())
			r.RemoteAddr = net.JoinHostPort(caller.String(), "0")
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) caller(r *http.Request) (netip.Addr, bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.trusted(peer.Addr()) {
		return netip.Addr{}, false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return netip.Addr{}, false
		}
		if !s.trusted(hop) {
			return hop.Unmap(), true
		}
	}
	return netip.Addr{}, false
}

func (s *Server) trusted(address netip.Addr) bool {
	for _, prefix := range s.proxies {
		if prefix.Contains(address.Unmap()) {
			return true
		}
	}
	return false
}
