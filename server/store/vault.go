package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// ErrUnknownKey says that a secret was sealed with a key that the keyset does not hold: the keyset
// is older than the data, or not the right one at all.
var ErrUnknownKey = errors.New("store: sealed with a key that is not in the keyset")

// sealedColumn names a place where a secret is at rest. row is the column whose text identifies
// the row in the associated data; tenant tells a table with row-level security.
type sealedColumn struct {
	table, row, column string
	tenant             bool
}

// sealedColumns are all of them. [Vault.Seal] refuses any other, so that [Store.Reseal] can never
// forget one.
var sealedColumns = []sealedColumn{
	{"signedapproval_bitbucket_connections", "workspace_id", "access_token", true},
	{"signedapproval_bitbucket_connections", "workspace_id", "refresh_token", true},
	{"signedapproval_bitbucket_connections", "workspace_id", "previous_refresh_token", true},
	{"signedapproval_installations", "id", "system_token", true},
	{"signedapproval_pending_grants", "id", "access_token", false},
	{"signedapproval_pending_grants", "id", "refresh_token", false},
	{"signedapproval_hook_endpoints", "id", "secret", false},
}

// prefixSize is the length of what tink writes before a ciphertext: a version byte and the key id.
const prefixSize = 5

// Vault seals secrets with AES-256-GCM before they reach a table. The associated data are the
// table, the row and the column, so a sealed value that was moved elsewhere does not open. It is
// safe for concurrent use.
type Vault struct{ keys atomic.Pointer[openKeyset] }

type openKeyset struct {
	aead   tink.AEAD
	prefix [prefixSize]byte // of what the primary key seals
	known  map[[prefixSize]byte]bool
}

// OpenVault reads a keyset in tink's JSON form, as [NewKeyset], [AddKey] and [Promote] make it. Errors never
// quote the keyset.
func OpenVault(keysetJSON []byte) (*Vault, error) {
	v := &Vault{}
	if err := v.Reload(keysetJSON); err != nil {
		return nil, err
	}
	return v, nil
}

// Reload exchanges the keyset of a vault in use, for a server that goes on serving while its keys
// are rotated. On an error the old keyset stays.
func (v *Vault) Reload(keysetJSON []byte) error {
	handle, err := readKeyset(keysetJSON)
	if err != nil {
		return err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return errors.New("store: the keyset holds a key that is not for AEAD")
	}
	primary, err := handle.Primary()
	if err != nil {
		return errors.New("store: the keyset has no primary key")
	}
	keys := &openKeyset{aead: primitive, prefix: prefixOf(primary.KeyID()), known: map[[prefixSize]byte]bool{}}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return errors.New("store: the keyset cannot be read")
		}
		if entry.KeyStatus() == keyset.Enabled {
			keys.known[prefixOf(entry.KeyID())] = true
		}
	}
	v.keys.Store(keys)
	return nil
}

// Seal encrypts plain for one column of one row. table is the table's full name, row the text of
// its key: the workspace of a connection, the id of an installation, a pending grant or a hook
// endpoint, as Postgres prints it (a UUID bare and in lower case).
func (v *Vault) Seal(table, row, column string, plain []byte) ([]byte, error) {
	keys, err := v.place(table, row, column)
	if err != nil {
		return nil, err
	}
	sealed, err := keys.aead.Encrypt(plain, associatedData(table, row, column))
	if err != nil {
		return nil, fmt.Errorf("store: seal %s.%s", table, column)
	}
	return sealed, nil
}

// Open decrypts what Seal made for the same table, row and column. It fails with [ErrUnknownKey]
// where the keyset lacks the key.
func (v *Vault) Open(table, row, column string, sealed []byte) ([]byte, error) {
	keys, err := v.place(table, row, column)
	if err != nil {
		return nil, err
	}
	if len(sealed) < prefixSize || !keys.known[[prefixSize]byte(sealed)] {
		return nil, fmt.Errorf("open %s.%s: %w", table, column, ErrUnknownKey)
	}
	plain, err := keys.aead.Decrypt(sealed, associatedData(table, row, column))
	if err != nil {
		return nil, fmt.Errorf("store: open %s.%s: the value is damaged or was sealed for another place", table, column)
	}
	return plain, nil
}

// NeedsReseal tells whether sealed was made with another key than the present primary.
func (v *Vault) NeedsReseal(sealed []byte) bool {
	keys := v.keys.Load()
	return !bytes.HasPrefix(sealed, keys.prefix[:])
}

func (v *Vault) place(table, row, column string) (*openKeyset, error) {
	if v == nil {
		return nil, errors.New("store: no vault: the server has no keyset")
	}
	if row == "" {
		return nil, fmt.Errorf("store: %s.%s: a sealed value needs its row's key", table, column)
	}
	for _, c := range sealedColumns {
		if c.table == table && c.column == column {
			return v.keys.Load(), nil
		}
	}
	return nil, fmt.Errorf("store: %s.%s is not listed as a sealed column", table, column)
}

// associatedData prefixes each part with its length, so that no two places share one encoding.
func associatedData(parts ...string) []byte {
	var data []byte
	for _, part := range parts {
		data = binary.AppendUvarint(data, uint64(len(part)))
		data = append(data, part...)
	}
	return data
}

func prefixOf(keyID uint32) [prefixSize]byte {
	prefix := [prefixSize]byte{1} // tink's format byte
	binary.BigEndian.PutUint32(prefix[1:], keyID)
	return prefix
}

// NewKeyset makes a keyset with one random AES-256-GCM key, in tink's JSON form. It is a secret.
func NewKeyset() []byte {
	manager := keyset.NewManager()
	id, err := addKey(manager)
	if err == nil {
		err = manager.SetPrimary(id)
	}
	if err != nil {
		panic(err) // nothing but a fault of tink itself: there is no input
	}
	keysetJSON, err := closeKeyset(manager)
	if err != nil {
		panic(err)
	}
	return keysetJSON
}

// AddKey returns the keyset with a new random key in it, which opens and does not seal yet: a server
// that does not have it misses nothing. [Promote] makes it the primary once every server has it.
func AddKey(keysetJSON []byte) ([]byte, error) {
	handle, err := readKeyset(keysetJSON)
	if err != nil {
		return nil, err
	}
	manager := keyset.NewManagerFromHandle(handle)
	if _, err := addKey(manager); err != nil {
		return nil, err
	}
	return closeKeyset(manager)
}

// Promote returns the keyset with its newest key as the primary, with which everything is sealed from
// then on. The old keys stay, so that what they sealed still opens. It fails where the newest key is
// the primary already: then none was added.
func Promote(keysetJSON []byte) ([]byte, error) {
	handle, err := readKeyset(keysetJSON)
	if err != nil {
		return nil, err
	}
	primary, err := handle.Primary()
	if err != nil {
		return nil, errors.New("store: the keyset has no primary key")
	}
	newest, err := handle.Entry(handle.Len() - 1)
	if err != nil {
		return nil, errors.New("store: the keyset cannot be read")
	}
	if newest.KeyID() == primary.KeyID() {
		return nil, errors.New("the newest key is the primary already: add a key first")
	}
	manager := keyset.NewManagerFromHandle(handle)
	if err := manager.SetPrimary(newest.KeyID()); err != nil {
		return nil, errors.New("store: the newest key cannot become the primary")
	}
	return closeKeyset(manager)
}

func addKey(manager *keyset.Manager) (uint32, error) {
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return 0, errors.New("store: a new key cannot be made")
	}
	return id, nil
}

func closeKeyset(manager *keyset.Manager) ([]byte, error) {
	handle, err := manager.Handle()
	if err != nil {
		return nil, errors.New("store: the keyset cannot be closed")
	}
	var out bytes.Buffer
	// In the clear: the file or the environment that it comes from is what protects it.
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&out)); err != nil {
		return nil, errors.New("store: the keyset cannot be written")
	}
	return out.Bytes(), nil
}

func readKeyset(keysetJSON []byte) (*keyset.Handle, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(keysetJSON)))
	if err != nil {
		return nil, errors.New("store: the keyset is not a keyset in tink's JSON form") // tink's error may quote it
	}
	return handle, nil
}
