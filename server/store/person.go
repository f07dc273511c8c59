package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// Person is one human, tied to one Bitbucket account. A person exists from the first sign-in, or from
// the first look at a panel in Bitbucket's frame, on.
type Person struct {
	ID          string // ours, random
	AccountID   string // Bitbucket account id: the lasting identity
	AccountUUID string
	Name        string // as Bitbucket showed it at the last sign-in
	Salt        []byte // 32 random bytes: salt of this person's commitments
	Email       string // confirmed sign-in address, "" if none
	CreatedAt   time.Time
	SignedInAt  time.Time
}

const personColumns = `id, account_id, account_uuid, name, salt, email, created_at, signed_in_at`

// PutPerson stores who signed in: a new person for a new account, else the present one with the
// name and the address of today. Only AccountID, AccountUUID, Name and Email are read.
func (sh *Shared) PutPerson(ctx context.Context, p Person) (Person, error) {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails
	stored, err := single[Person](ctx, sh.tx, `
		insert into signedapproval_people (account_id, account_uuid, name, salt, email)
		values ($1, $2, $3, $4, $5)
		on conflict (account_id) do update set account_uuid = excluded.account_uuid, name = excluded.name,
			email = excluded.email, signed_in_at = now()
		returning `+personColumns,
		p.AccountID, p.AccountUUID, p.Name, salt, p.Email)
	if err != nil {
		return Person{}, fmt.Errorf("store: put person: %w", err)
	}
	return stored, nil
}

// MeetPerson stores an account that Bitbucket has named and that has not signed in here; a person who is
// known stays as they are. Only AccountID, AccountUUID and Name are read.
func (sh *Shared) MeetPerson(ctx context.Context, p Person) (Person, error) {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails
	stored, err := single[Person](ctx, sh.tx, `
		insert into signedapproval_people (account_id, account_uuid, name, salt) values ($1, $2, $3, $4)
		on conflict (account_id) do update set account_id = excluded.account_id
		returning `+personColumns,
		p.AccountID, p.AccountUUID, p.Name, salt)
	if err != nil {
		return Person{}, fmt.Errorf("store: meet person: %w", err)
	}
	return stored, nil
}

// Person reads a person by our id.
func (sh *Shared) Person(ctx context.Context, id string) (Person, error) {
	return single[Person](ctx, sh.tx, `select `+personColumns+` from signedapproval_people where id = $1`, id)
}

// People reads the persons with these ids of ours, in no order; unknown ids are left out.
func (sh *Shared) People(ctx context.Context, ids []string) ([]Person, error) {
	return list[Person](ctx, sh.tx, `select `+personColumns+` from signedapproval_people where id = any($1)`, ids)
}

// PeopleByAccounts reads the persons with these Bitbucket account ids, in no order; accounts that
// never signed in are left out.
func (sh *Shared) PeopleByAccounts(ctx context.Context, accountIDs []string) ([]Person, error) {
	return list[Person](ctx, sh.tx, `select `+personColumns+` from signedapproval_people where account_id = any($1)`, accountIDs)
}
