package store_test

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/signedapproval/bitbucket/server/store"
)

const connections = "signedapproval_bitbucket_connections"

func openVault(t *testing.T, keyset []byte) *store.Vault {
	t.Helper()
	v, err := store.OpenVault(keyset)
	must(t, err)
	return v
}

func TestVaultOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	v := openVault(t, store.NewKeyset())
	sealed, err := v.Seal(connections, acme, "access_token", []byte("token"))
	must(t, err)
	if bytes.Contains(sealed, []byte("token")) {
		t.Error("the sealed value shows the token")
	}
	plain, err := v.Open(connections, acme, "access_token", sealed)
	must(t, err)
	same(t, "opened", string(plain), "token")
	for name, place := range map[string][3]string{
		"another table":  {"signedapproval_pending_grants", acme, "access_token"},
		"another row":    {connections, globex, "access_token"},
		"another column": {connections, acme, "refresh_token"},
		"shifted bytes":  {connections, acme + "a", "access_token"},
	} {
		if _, err := v.Open(place[0], place[1], place[2], sealed); err == nil {
			t.Errorf("%s: the value opens", name)
		}
	}
	for name, damaged := range map[string][]byte{"empty": nil, "cut": sealed[:len(sealed)-1], "flipped": append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1)} {
		if _, err := v.Open(connections, acme, "access_token", damaged); err == nil {
			t.Errorf("%s: the value opens", name)
		}
	}
}

func TestVaultRefusesUnlistedPlaces(t *testing.T) {
	t.Parallel()
	v := openVault(t, store.NewKeyset())
	if _, err := v.Seal("signedapproval_people", acme, "email", []byte("x")); err == nil {
		t.Error("a column was sealed that no rotation would find")
	}
	if _, err := v.Seal(connections, "", "access_token", []byte("x")); err == nil {
		t.Error("a value was sealed for no row")
	}
	var none *store.Vault
	if _, err := none.Seal(connections, acme, "access_token", []byte("x")); err == nil {
		t.Error("a missing vault seals")
	}
}

// rotated is a keyset with another primary key.
func rotated(t *testing.T, keyset []byte) []byte {
	t.Helper()
	added, err := store.AddKey(keyset)
	must(t, err)
	promoted, err := store.Promote(added)
	must(t, err)
	return promoted
}

// TestVaultRotation goes through a rotation with two servers that do not read their keysets at the same
// time: at each step either opens what the other seals.
func TestVaultRotation(t *testing.T) {
	t.Parallel()
	first := store.NewKeyset()
	added, err := store.AddKey(first)
	must(t, err)
	promoted, err := store.Promote(added)
	must(t, err)
	fast, slow := openVault(t, first), openVault(t, first)
	opens := func(step string, sealer, opener *store.Vault) {
		t.Helper()
		sealed, err := sealer.Seal(connections, acme, "access_token", []byte("token"))
		must(t, err)
		plain, err := opener.Open(connections, acme, "access_token", sealed)
		must(t, err)
		same(t, step, string(plain), "token")
	}
	old, err := fast.Seal(connections, acme, "access_token", []byte("token"))
	must(t, err)
	for _, keyset := range [][]byte{added, promoted} {
		must(t, fast.Reload(keyset))
		opens("the slow server opens what the fast one seals", fast, slow)
		opens("the fast server opens what the slow one seals", slow, fast)
		must(t, slow.Reload(keyset))
	}
	same(t, "NeedsReseal after the rotation", fast.NeedsReseal(old), true)
	plain, err := fast.Open(connections, acme, "access_token", old)
	must(t, err)
	same(t, "opened after the rotation", string(plain), "token")
	fresh, err := fast.Seal(connections, acme, "access_token", []byte("token"))
	must(t, err)
	same(t, "NeedsReseal of a fresh value", fast.NeedsReseal(fresh), false)
	same(t, "NeedsReseal of an old one while the new key only opens", openVault(t, added).NeedsReseal(old), false)
	_, err = openVault(t, first).Open(connections, acme, "access_token", fresh)
	wantError(t, "a keyset without the new key", err, store.ErrUnknownKey)

	if err := fast.Reload([]byte("{}")); err == nil {
		t.Error("an empty keyset was loaded")
	}
	_, err = fast.Open(connections, acme, "access_token", fresh)
	must(t, err)
	for name, keyset := range map[string][]byte{"a new keyset": first, "a promoted one": promoted} {
		if _, err := store.Promote(keyset); err == nil {
			t.Errorf("%s has a key to promote", name)
		}
	}
}

func TestKeysetErrorsDoNotQuoteTheKeyset(t *testing.T) {
	t.Parallel()
	keyset := string(store.NewKeyset())
	for name, broken := range map[string]string{
		"empty": "", "not JSON": "secret-material", "cut": keyset[:len(keyset)-9] + "secret-material", "no keys": `{"primaryKeyId":1,"key":[]}`,
	} {
		for what, err := range map[string]error{
			"OpenVault": func() error { _, err := store.OpenVault([]byte(broken)); return err }(),
			"AddKey":    func() error { _, err := store.AddKey([]byte(broken)); return err }(),
			"Promote":   func() error { _, err := store.Promote([]byte(broken)); return err }(),
		} {
			if err == nil || strings.Contains(err.Error(), "secret-material") {
				t.Errorf("%s of a keyset that is %s: error %v, want one that quotes nothing", what, name, err)
			}
		}
	}
}

func TestVaultRoundTrip(t *testing.T) {
	t.Parallel()
	v := openVault(t, store.NewKeyset())
	rapid.Check(t, func(r *rapid.T) {
		row := rapid.StringN(1, 50, -1).Draw(r, "row")
		other := rapid.StringN(1, 50, -1).Draw(r, "other")
		want := rapid.SliceOf(rapid.Byte()).Draw(r, "plain")
		sealed, err := v.Seal(connections, row, "access_token", want)
		if err != nil {
			r.Fatal(err)
		}
		got, err := v.Open(connections, row, "access_token", sealed)
		if err != nil || !bytes.Equal(got, want) {
			r.Fatalf("opened %q, %v; want %q", got, err, want)
		}
		if _, err := v.Open(connections, other, "access_token", sealed); (err == nil) != (row == other) {
			r.Fatalf("open for row %q what was sealed for %q: %v", other, row, err)
		}
	})
}
