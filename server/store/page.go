package store

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/refusal"
)

const (
	defaultPage = 20
	maxPage     = 100
	// maxCursor is the longest cursor that is looked at, in bytes.
	maxCursor = 1 << 10
)

// Page asks for a part of a list. Lists are walked by key, never by number: what is inserted or
// removed meanwhile neither repeats nor hides another row. A list answers ([]T, hasNext, error), and
// each T has a Cursor method that says where it stands.
type Page struct {
	// First is how many rows to return: 1 to 100, or 0 for 20.
	First int
	// After is the cursor of the last row that the caller has; "" starts the list.
	After string
}

// limit is the number of rows to answer; a query reads one more, to know whether others follow.
func (p Page) limit() int {
	if p.First == 0 {
		return defaultPage
	}
	return p.First
}

// keys reads the keys out of the cursor into pointers, in the order in which cursor was given
// them. It is false, and touches nothing, at the start of the list. A length outside the limits and
// what is not a cursor of such a list are the refusal BAD_INPUT. Every list calls it, or a function
// that does, before limit.
func (p Page) keys(into ...any) (bool, error) {
	if p.First < 0 || p.First > maxPage {
		return false, refusal.New(refusal.BadInput, "A page has 1 to %d entries.", maxPage).At("first")
	}
	if p.After == "" {
		return false, nil
	}
	bad := refusal.New(refusal.BadInput, "The cursor is not one of this list.").At("after")
	if len(p.After) > maxCursor {
		return false, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.After)
	if err != nil {
		return false, bad.Because(err)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil || len(parts) != len(into) {
		return false, bad
	}
	for i := range into {
		if err := json.Unmarshal(parts[i], into[i]); err != nil {
			return false, bad.Because(err)
		}
	}
	return true, nil
}

// after is keys for the most common order: by a time and, where that is equal, by id. Both are
// nil at the start of the list.
func (p Page) after() (at *time.Time, id *string, err error) {
	var (
		when time.Time
		row  rowID
	)
	started, err := p.keys(&when, &row)
	if err != nil || !started {
		return nil, nil, err
	}
	text := string(row)
	return &when, &text, nil
}

// What the keys of a row are compared with, on a list by a time and by id whose $2 and $3 are what after gives: where
// the list begins, before all rows. So an index is entered where the page begins, by one plan for every page.
const (
	newestFirst = `(coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))`
	oldestFirst = `(coalesce($2::timestamptz, '-infinity'), coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'))`
)

// afterName is keys for lists by name and, where that is equal, by id.
func (p Page) afterName() (name, id *string, err error) {
	var (
		text string
		row  rowID
	)
	started, err := p.keys(&text, &row)
	if err != nil || !started {
		return nil, nil, err
	}
	if strings.ContainsRune(text, 0) { // Postgres has no such text
		return nil, nil, refusal.New(refusal.BadInput, "The cursor is not one of this list.").At("after")
	}
	value := string(row)
	return &text, &value, nil
}

// cursor writes down the keys by which a list is ordered.
func cursor(keys ...any) string {
	raw, err := json.Marshal(keys)
	if err != nil {
		panic("store: a cursor of values that JSON cannot hold: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// paged takes the row that was read beyond the limit away again: it only says that others follow.
func paged[T any](rows []T, p Page) (page []T, hasNext bool) {
	if len(rows) > p.limit() {
		return rows[:p.limit()], true
	}
	return rows, false
}

// rowID is a uuid inside a cursor: text from outside must not reach a cast.
type rowID string

// UnmarshalJSON accepts nothing but the canonical form.
func (id *rowID) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	if !ValidID(text) {
		return fmt.Errorf("%q is not an identifier", text)
	}
	*id = rowID(text)
	return nil
}

// NewID makes the id of a row of which many come. It begins with its time (UUID version 7): what came lately is side by side in an
// index, however large the table is, and so is written into pages that are at hand. Of a table with random ids every new row needs
// a page of each index that nobody had in memory, and has all of it written to the log after each checkpoint.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// ValidID tells whether s is a UUID in the form that every id of this package has: bare and in lower
// case. Ids that came from outside are checked with it before they reach a query.
func ValidID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdef", rune(s[i])) {
				return false
			}
		}
	}
	return true
}
