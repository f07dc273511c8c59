package bitbucket_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// writers are the methods of the client that change something at Bitbucket. A method that is in neither
// this list nor seen to send GET fails the tests below.
var writers = []string{
	"CreateBranchRestriction", "CreateHook", "DeleteBranchRestriction", "DeleteHook", "Merge", "PutStatus",
	"UpdateBranchRestriction", "UpdateHook",
}

var errMayNot = errors.New("may not write now")

func TestReadOnlySendsNoWrite(t *testing.T) {
	t.Parallel()
	s := serve(t, answerJSON(`{}`))
	refused := map[string]bool{}
	for _, call := range everyCall(t.Context(), s.client(bitbucket.Config{}).ReadOnly(errMayNot)) {
		before := len(s.received())
		err := call.run()
		sent := s.received()[before:]
		name := strings.Fields(call.name)[0]
		if slices.Contains(writers, name) {
			refused[name] = true
			if len(sent) != 0 {
				t.Errorf("%s sent %s %s", call.name, sent[0].Method, sent[0].Path)
			}
			if !errors.Is(err, errMayNot) {
				t.Errorf("%s: got %v, want why it may not", call.name, err)
			} else if got := asError(t, err); got.Class() != bitbucket.Transient {
				t.Errorf("%s: the refusal is %s", call.name, got.Class())
			}
			continue
		}
		if errors.Is(err, errMayNot) || len(sent) == 0 {
			t.Errorf("%s reads and was not let through: %v", call.name, err)
		}
		for _, one := range sent {
			if one.Method != http.MethodGet {
				t.Errorf("%s sent %s: list it among the writers", call.name, one.Method)
			}
		}
	}
	for _, name := range writers {
		if !refused[name] {
			t.Errorf("%s is a writer and was not called", name)
		}
	}
}

// TestEveryMethodIsCalled keeps everyCall, and with it the test above, complete.
func TestEveryMethodIsCalled(t *testing.T) {
	t.Parallel()
	called := map[string]bool{"Renewing": true, "ReadOnly": true} // these give clients
	for _, call := range everyCall(t.Context(), serve(t, answerJSON(`{}`)).client(bitbucket.Config{})) {
		called[strings.Fields(call.name)[0]] = true
	}
	for method := range reflect.TypeFor[*bitbucket.Client]().Methods() {
		if !called[method.Name] {
			t.Errorf("everyCall lacks %s", method.Name)
		}
	}
}

func TestReadOnlyOutlivesARenewal(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			http.Error(w, "", http.StatusUnauthorized)
			return
		}
		answerJSON(`{"uuid": "{`+userUUID+`}", "type": "user", "account_id": "a"}`)(w, r)
	})
	renew := func(context.Context, string) (string, error) { return "good", nil }
	for name, c := range map[string]*bitbucket.Client{
		"read-only, then renewing": s.client(bitbucket.Config{}).ReadOnly(errMayNot).Renewing(renew),
		"renewing, then read-only": s.client(bitbucket.Config{}).Renewing(renew).ReadOnly(errMayNot),
	} {
		if _, err := c.CurrentUser(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := len(s.received())
		if _, err := c.Merge(t.Context(), workspaceUUID, repoUUID, 1, bitbucket.MergeOptions{}); !errors.Is(err, errMayNot) {
			t.Errorf("%s: after the renewal a merge gave %v", name, err)
		}
		if sent := s.received()[before:]; len(sent) != 0 {
			t.Errorf("%s: sent %s %s", name, sent[0].Method, sent[0].Path)
		}
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	const path = "/ex/bitbucket/cloud-1"
	api := bitbucket.New(bitbucket.Config{BaseURL: "http://127.0.0.1:1"})

	t.Run("another address, below a path", func(t *testing.T) {
		t.Parallel()
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch page := r.URL.Query().Get("page"); page {
			case "": // a link that names the public address
				answerJSON(`{"values": [], "next": "https://api.bitbucket.org`+strings.TrimPrefix(r.URL.Path, path)+`?page=2&q=%7Bx%7D"}`)(w, r)
			case "2": // one that names ours
				answerJSON(`{"values": [], "next": "http://`+r.Host+r.URL.Path+`?page=3"}`)(w, r)
			case "3": // and one that leads out of it
				answerJSON(`{"values": [{"user": {"uuid": "{`+userUUID+`}", "account_id": "a"}}], "next": "http://`+r.Host+`/2.0/elsewhere"}`)(w, r)
			}
		})
		there, err := api.At(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		members, err := collect(there.As(token, "k", bitbucket.Foreground).Members(t.Context(), workspaceUUID))
		if len(members) != 1 || !errors.Is(err, bitbucket.ErrForeignOrigin) {
			t.Errorf("got %d members and %v, want one and then the link refused", len(members), err)
		}
		sent := s.received()
		if len(sent) != 3 || sent[1].Query != "page=2&q=%7Bx%7D" {
			t.Errorf("sent %v", sent)
		}
		for _, one := range sent {
			if one.Path != sent[0].Path || !strings.HasPrefix(one.Path, path+"/2.0/workspaces/") {
				t.Errorf("sent to %s", one.Path)
			}
		}
	})
	for _, bad := range []string{"", "api.bitbucket.org", "ftp://api.bitbucket.org", "https://user@api.bitbucket.org", "https://api.bitbucket.org/?a=b", "https://api.bitbucket.org/#a", "::"} {
		if _, err := api.At(bad); err == nil {
			t.Errorf("%q was taken for the address of an API", bad)
		}
	}
}
