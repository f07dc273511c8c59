package gate_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/people"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
)

// TestKeyStories tells random stories of people who swap, lose, report and vouch for keys in two workspaces of an honest server, while
// its jobs wait. What counts in a workspace is in its roster as soon as that follows, when all is done nothing else is, and a monitor of
// each workspace alarms on nothing: no key vouches for another one behind what revokes it.
func TestKeyStories(t *testing.T) {
	t.Parallel()
	for i := range *stories {
		seed := *storySeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			w.governed()
			other, _ := w.twoWorkspaces()
			s := &keyStory{world: w, rand: rand.New(rand.NewPCG(seed, 1)), workspaces: []string{w.workspace, other}, passkeys: map[string][]*passkeytest.Authenticator{}}
			for _, name := range s.names() {
				s.passkeys[name] = append(s.passkeys[name], w.people[name].key)
			}
			w.keys.Role = func(_ context.Context, p store.Person, _ string, _ bool) (store.Role, error) {
				if slices.ContainsFunc(s.administrators(), func(name string) bool { return w.people[name].ID == p.ID }) {
					return store.RoleAdmin, nil
				}
				return store.RoleMember, nil
			}
			defer func() {
				if t.Failed() {
					t.Logf("-story %d:\n%s", seed, strings.Join(s.told, "\n"))
				}
			}()
			for range 40 {
				s.happens()
			}
			s.everybody(false)
			w.settle()
			s.everybody(true)
			w.gate.Role = func(context.Context, store.Person, string, bool) (store.Role, error) { return store.RoleAdmin, nil }
			w.unalarming(s.workspaces...)
		})
	}
}

type keyStory struct {
	*world
	rand       *rand.Rand
	workspaces []string
	passkeys   map[string][]*passkeytest.Authenticator
	told       []string
}

func (s *keyStory) names() []string { return []string{"alice", "bob", "carol"} }

func (s *keyStory) administrators() []string { return s.names()[:2] }

func (s *keyStory) note(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

// refused lets a refusal pass, which is a word of the product.
func (s *keyStory) refused(err error) bool {
	s.t.Helper()
	if err != nil && refusal.Code(err) == "" {
		s.t.Fatal(err)
	}
	return err != nil
}

// answer has any passkey of a person sign that may.
func (s *keyStory) answer(name string, act people.KeyAct) string {
	s.t.Helper()
	all := s.passkeys[name]
	for _, i := range s.rand.Perm(len(all)) {
		if answer, err := all[i].Get(act.Options); err == nil {
			return string(answer)
		}
	}
	s.t.Fatalf("no passkey of %s can sign %s", name, act.Statement)
	return ""
}

// meanwhile lets other things happen while somebody looks for a passkey.
func (s *keyStory) meanwhile() {
	if s.rand.IntN(4) == 0 {
		s.note("  meanwhile:")
		s.happens()
	}
}

// signs has somebody sign an act that they asked for, and tells what came of it.
func (s *keyStory) signs(name string, act people.KeyAct, err error) error {
	s.t.Helper()
	if s.refused(err) {
		return err
	}
	answer, p := s.answer(name, act), s.people[name]
	s.meanwhile()
	_, _, err = s.keys.SignKeyAct(s.t.Context(), p.Person, p.session, answer)
	s.refused(err)
	return err
}

// enrols has somebody make a key, for which one that they have signs; the first one rests on the log-in, and any other waits for somebody.
func (s *keyStory) enrols(name string) error {
	s.t.Helper()
	ctx, p, fresh := s.t.Context(), s.people[name], passkeytest.New(origin)
	options, err := s.keys.BeginPasskey(ctx, p.Person, p.session, "key")
	if s.refused(err) {
		return err
	}
	made, err := fresh.Create([]byte(options))
	s.must(err)
	_, act, err := s.keys.FinishPasskey(ctx, p.Person, p.session, "", string(made))
	if s.refused(err) {
		return err
	}
	possession, err := fresh.Get(act.Options)
	s.must(err)
	_, next, err := s.keys.ConfirmPasskey(ctx, p.Person, p.session, string(possession))
	if s.refused(err) {
		return err
	}
	s.passkeys[name] = append(s.passkeys[name], fresh)
	if next == nil {
		return nil
	}
	answer := s.answer(name, *next)
	s.meanwhile()
	_, _, err = s.keys.ConfirmPasskey(ctx, p.Person, p.session, answer)
	s.refused(err)
	return err
}

// any is one of somebody's newest keys.
func (s *keyStory) any(name string) []byte {
	s.t.Helper()
	var keys []store.Credential
	s.must(s.store.Outside(s.t.Context(), func(sh *store.Shared) (err error) {
		keys, err = sh.Credentials(s.t.Context(), s.people[name].ID)
		return err
	}))
	return keys[s.rand.IntN(min(len(keys), 4))].ID
}

// since is when a key may have been in other hands; mostly nobody says that.
func (s *keyStory) since() *time.Time {
	if s.rand.IntN(3) > 0 {
		return nil
	}
	return new(time.Now().Add(-time.Duration(s.rand.IntN(4)) * time.Second).UTC().Truncate(time.Second))
}

func (s *keyStory) happens() {
	s.t.Helper()
	ctx, of := s.t.Context(), s.workspaces[s.rand.IntN(2)]
	name, by := s.names()[s.rand.IntN(3)], s.administrators()[s.rand.IntN(2)]
	p, administrator, id, since := s.people[name], s.people[by], s.any(name), s.since()
	switch n := s.rand.IntN(24); {
	case n < 7:
		err := s.enrols(name)
		s.note("%s enrols %x: %v", name, s.keyID(p)[:3], err)
	case n < 9:
		_, err := s.keys.RevokePasskey(ctx, p.Person, id)
		s.refused(err)
		s.note("%s revokes %x by a click: %v", name, id[:3], err)
	case n < 12:
		act, err := s.keys.PrepareRevocation(ctx, p.Person, p.session, id, since)
		s.note("%s revokes %x, since %v: %v", name, id[:3], since, s.signs(name, act, err))
	case n < 15:
		act, err := s.keys.PrepareMemberRevocation(ctx, administrator.Person, administrator.session, of, id, since)
		s.note("%s revokes %x of %s in %s, since %v: %v", by, id[:3], name, of, since, s.signs(by, act, err))
	case n < 20:
		act, err := s.keys.PrepareCountersignature(ctx, administrator.Person, administrator.session, of, id)
		s.note("%s vouches for %x of %s in %s: %v", by, id[:3], name, of, s.signs(by, act, err))
	case n == 20 && s.rand.IntN(3) == 0:
		_, err := s.keys.ReportLost(ctx, p.Person)
		s.must(err)
		s.note("%s lost all keys", name)
	case n < 22:
		s.settle()
		s.note("the jobs are done")
	default:
		s.follows(name, of, false)
	}
}

func (s *keyStory) everybody(settled bool) {
	s.t.Helper()
	for _, of := range s.workspaces {
		for _, name := range s.names() {
			s.follows(name, of, settled)
		}
	}
}

// follows lets a roster follow somebody, as before they sign anything. What counts in the workspace is in it then; and nothing else, when
// everybody else was followed too.
func (s *keyStory) follows(name, of string, settled bool) {
	s.t.Helper()
	ctx, p := s.t.Context(), s.people[name]
	_, err := s.gate.SyncRoster(ctx, of, p.ID)
	s.must(err)
	s.note("%s is followed in %s", name, of)
	s.must(s.store.InWorkspace(ctx, of, func(tx *store.Tx) error {
		keys, err := tx.Keys(ctx, p.ID)
		if err != nil {
			return err
		}
		roster, err := tx.WholeRoster(ctx)
		if err != nil {
			return err
		}
		counting := keys.Counting(of)
		for _, c := range counting {
			if key, found := roster.Key(c.ID); !found || !key.LiveAt(roster.Versions()) {
				s.t.Errorf("%x of %s counts in %s, and not in its roster, which has it: %v", c.ID[:3], name, of, found)
			}
		}
		for _, key := range roster.LiveAt(roster.Versions()) {
			if id := key.Key.CredentialID; settled && key.Key.Person == p.ID && !slices.ContainsFunc(counting, func(c store.Credential) bool { return bytes.Equal(c.ID, id) }) {
				s.t.Errorf("%x of %s is in the roster of %s, and does not count", id[:3], name, of)
			}
		}
		return nil
	}))
}
